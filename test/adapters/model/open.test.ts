/** A model that the trainer has written, and what is refused of one that is not as it was written. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type ArtefactFiles, openModel } from "../../../adapters/model/open.ts";

const FOLDER = join(import.meta.dirname, "..", "..", "fixtures", "models", "fraud");
const files: ArtefactFiles = Object.fromEntries(
  readdirSync(FOLDER).map((name) => [name, readFileSync(join(FOLDER, name))]),
);
const json = (name: string) => JSON.parse(Buffer.from(files[name]).toString("utf8"));
/** The artefact with files changed, and a manifest that names them as they are now. */
function altered(
  changes: Readonly<Record<string, unknown>>,
  editManifest: (manifest: any) => void = () => {},
): ArtefactFiles {
  const bytes = Object.entries(changes).map(([name, value]) => [
    name,
    value instanceof Uint8Array ? value : Buffer.from(JSON.stringify(value).replaceAll('"1e999"', "1e999")),
  ]);
  const all = { ...files, ...Object.fromEntries(bytes) };
  const manifest = json("manifest.json");
  for (const name in manifest.files) manifest.files[name] = createHash("sha256").update(all[name]).digest("hex");
  editManifest(manifest);
  return { ...all, "manifest.json": Buffer.from(JSON.stringify(manifest)) };
}
const refusal = async (given: ArtefactFiles) => {
  try {
    await (await openModel(given)).close();
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return `${code}: ${message}`;
  }
  return "opened";
};
const number = (value: number | null) => value ?? Number.NaN;

describe("a model that is whole", () => {
  it("is opened without a record of it for the runtime's maker", () => {
    const home = mkdtempSync(join(tmpdir(), "freshet-model-home-"));
    const script = `
      import { readdirSync, readFileSync } from "node:fs";
      import { openModel } from "./adapters/model/open.ts";
      const folder = "test/fixtures/models/fraud/";
      const files = readdirSync(folder).map((name) => [name, readFileSync(folder + name)]);
      await (await openModel(Object.fromEntries(files))).close();`;
    try {
      const { ORT_DISABLE_TELEMETRY: _, ...env } = process.env;
      const root = join(import.meta.dirname, "..", "..", "..");
      execFileSync(process.execPath, ["--input-type=module", "--eval", script], {
        cwd: root,
        env: { ...env, HOME: home, TMPDIR: home, XDG_CACHE_HOME: join(home, "cache") },
      });
      expect(readdirSync(home)).toEqual([]);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });

  const golden = json("golden.json");
  const rows: Float64Array[] = golden.rows.map((row: (number | null)[]) => Float64Array.from(row, number));

  it("scores golden rows as training did, alone and together, also above a hundred", async () => {
    const model = await openModel(files);
    const many = [...rows, ...rows, ...rows];
    expect(many.length).toBeGreaterThan(100);
    const scores = await model.score(many);
    expect(scores).toHaveLength(many.length);
    for (const [row, { probability, raw }] of scores.entries()) {
      expect(Math.abs(probability - golden.probability[row % rows.length])).toBeLessThan(1e-12);
      expect(Math.abs(raw - golden.raw[row % rows.length])).toBeLessThan(1e-12);
    }
    await model.close();
  });

  it("scores a row alike alone and among others, by walk and by runtime, to the last bit", async () => {
    const model = await openModel(files);
    for (const row of rows) {
      const [alone] = await model.score([row]);
      // 103: where the runtime's own probabilities of equal rows differ.
      for (const count of [3, 15, 16, 103]) {
        expect(await model.score(new Array(count).fill(row))).toEqual(new Array(count).fill(alone));
      }
    }
    await model.close();
  });

  it("explains in calibrated log-odds: base and contributions add up to raw", async () => {
    const model = await openModel(files);
    const { method, base, contributions } = model.explain(rows[0]);
    expect(method).toBe("path");
    expect(contributions).toHaveLength(model.manifest.features.length);
    expect(contributions.reduce((sum, one) => sum + one, base)).toBeCloseTo(golden.raw[0], 12);
    await model.close();
  });
});

describe("a model that is refused", () => {
  it.each(["manifest.json", "model.onnx", "golden.json", "trees.json"])("without %s", async (name) => {
    const { [name]: _, ...rest } = files;
    expect(await refusal(rest)).toBe(`artefact_incomplete: the artefact has no ${name}`);
  });

  it.each(["model.onnx", "golden.json", "trees.json"])("with a byte of %s changed", async (name) => {
    const bytes = Buffer.from(files[name]);
    bytes[bytes.length >> 1] ^= 1;
    expect(await refusal({ ...files, [name]: bytes })).toBe(
      `artefact_digest: ${name} is not the file that its manifest names: its SHA-256 is another`,
    );
  });

  it("with a manifest that names no digest of a file", async () => {
    const given = altered({}, ({ files: digests }) => delete digests["model.onnx"]);
    expect(await refusal(given)).toBe("artefact_digest: manifest.json has no digest of model.onnx");
  });

  it("that is another number of inputs than its manifest has features", async () => {
    const golden = json("golden.json");
    const trees = json("trees.json");
    const given = altered(
      {
        "golden.json": { ...golden, rows: golden.rows.map((row: number[]) => [...row, 0]) },
        "trees.json": { ...trees, feature_count: 32 },
      },
      ({ features }) => features.push({ name: "one_more", dtype: "double" }),
    );
    expect(await refusal(given)).toBe("model_input_count: model.onnx takes 31 inputs, its manifest names 32 features");
  });

  it("whose scores are off by a billionth, or whose trees are", async () => {
    const golden = json("golden.json");
    const off = (name: "raw" | "probability") =>
      altered({
        "golden.json": { ...golden, [name]: golden[name].map((one: number, i: number) => one + (i === 5 ? 2e-9 : 0)) },
      });
    expect(await refusal(off("raw"))).toMatch(
      /^model_golden_rows: raw of golden row 5 is .* here and .* where fraud-lightgbm was trained$/,
    );
    expect(await refusal(off("probability"))).toContain("model_golden_rows: probability of golden row 5 is");
    const trees = json("trees.json");
    trees.leaves.value[3] += 1;
    expect(await refusal(altered({ "trees.json": trees }))).toContain(
      "model_golden_rows: the sum of leaves in trees.json",
    );
  });

  it("that is no graph, or no JSON, or of a later version", async () => {
    expect(await refusal(altered({ "model.onnx": Buffer.from("garbage") }))).toBe(
      "model_graph: model.onnx is no graph that this runtime can load",
    );
    expect(await refusal({ ...files, "manifest.json": Buffer.from("{") })).toBe(
      "artefact_invalid: manifest.json: is not JSON",
    );
    expect(await refusal(altered({}, (manifest) => void (manifest.version = 2)))).toBe(
      "artefact_version: manifest.json has version 2, this reader knows 1",
    );
  });

  it.each<[string, (trees: any) => void, string]>([
    ["a circle", (trees) => void (trees.nodes.true[1] = 1), "a child lies before its parent"],
    [
      "a child that is not there",
      (trees) => void (trees.nodes.true[1] = -10_000),
      "a child is neither a node nor a leaf",
    ],
    ["a column too short", (trees) => void trees.nodes.cover.pop(), "nodes.cover has a value a node"],
    ["a feature too many", (trees) => void (trees.nodes.feature[0] = 31), "a node splits by no feature"],
  ])("with %s in its trees", async (_, edit, message) => {
    const trees = json("trees.json");
    edit(trees);
    expect(await refusal(altered({ "trees.json": trees }))).toBe(`artefact_invalid: trees.json: ${message}`);
  });

  it("with golden rows of another width, or none", async () => {
    const golden = json("golden.json");
    expect(await refusal(altered({ "golden.json": { ...golden, rows: golden.rows.map(() => [1]) } }))).toBe(
      "artefact_invalid: golden.json: row 0 has 1 values, the model 31 features",
    );
    expect(await refusal(altered({ "golden.json": { rows: [], probability: [], raw: [] } }))).toContain(
      "at least one row",
    );
  });
});
