import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "..", "..");
const MODELS = 150;

describe("the ONNX exporter, over small models of odd data", () => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-fuzz-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const seed = Number(process.env.FRESHET_FUZZ_SEED ?? 1);
  const made = spawnSync(
    join(ROOT, ".freshet", "venv", "bin", "python"),
    [join(import.meta.dirname, "fuzz_models.py"), folder, String(MODELS), String(seed)],
    { encoding: "utf8", env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" } },
  );

  it("writes arrays that a walk scores exactly as LightGBM, with every kind of split among them", () => {
    expect(made.status, made.stderr).toBe(0);
    const seen = JSON.parse(made.stdout.replaceAll("'", '"'));
    for (const kind of ["nodes", "member", "stump", "infinite", "nan_true"]) {
      expect(seen[kind], `${kind} of seed ${seed}`).toBeGreaterThan(0);
    }
  });

  it("is scored by onnxruntime as by LightGBM, within 1e-12", async () => {
    const files = readdirSync(folder).filter((name) => name.endsWith(".onnx"));
    expect(files.length).toBe(MODELS);
    const wrong: string[] = [];
    for (const file of files) {
      const session = await InferenceSession.create(join(folder, file), { intraOpNumThreads: 1, interOpNumThreads: 1 });
      const shape = session.inputMetadata[0] as { shape: readonly (number | string)[] };
      const width = Number(shape.shape[1]);
      const bytes = readFileSync(join(folder, file.replace(".onnx", ".f64")));
      const table = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
      const count = table.length / (width + 1);
      const rows = new Float64Array(count * width);
      for (let row = 0; row < count; row++) {
        rows.set(table.subarray(row * (width + 1), row * (width + 1) + width), row * width);
      }
      // All rows at once and one by one: the runtime has different loops for them.
      const whole = (await session.run({ features: new Tensor("float64", rows, [count, width]) })).raw;
      for (let row = 0; row < count; row++) {
        const wanted = table[row * (width + 1) + width];
        const got = [(whole.data as Float64Array)[row]];
        if (row % 10 === 0) {
          const single = new Tensor("float64", rows.slice(row * width, (row + 1) * width), [1, width]);
          got.push(((await session.run({ features: single })).raw.data as Float64Array)[0]);
        }
        if (got.some((value) => !(Math.abs(value - wanted) <= 1e-12 * Math.max(1, Math.abs(wanted))))) {
          wrong.push(`${file} row ${row}: ${got.join(", ")}, not ${wanted}`);
        }
      }
      await session.release();
    }
    expect(wrong).toEqual([]);
  });
});
