import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";

const FOLDER = join(import.meta.dirname, "..", "fixtures", "models", "fraud");
const read = (name: string) => readFileSync(join(FOLDER, name));
const json = (name: string) => JSON.parse(read(name).toString("utf8"));

describe("the artefact that the trainer writes", () => {
  const manifest = json("manifest.json");
  const golden: { rows: (number | null)[][]; probability: number[]; raw: number[] } = json("golden.json");

  it("holds the files whose digests its manifest names", () => {
    expect(Object.keys(manifest.files)).toEqual([
      "golden.json",
      "metrics.json",
      "model.onnx",
      "report.html",
      "trees.json",
    ]);
    for (const [name, digest] of Object.entries(manifest.files)) {
      expect([name, createHash("sha256").update(read(name)).digest("hex")]).toEqual([name, digest]);
    }
  });

  it("knows an absent string as absent, not as a category", () => {
    const at = manifest.features.findIndex(({ name }: { name: string }) => name === "card_activity:last_country");
    expect(manifest.features[at].categories.toSorted()).toEqual(["AT", "BR", "CH", "DE", "FR", "GB", "JP", "US"]);
    expect(golden.rows.some((row) => row[at] === null)).toBe(true);
  });

  it("is scored by onnxruntime in Node as by LightGBM in Python, within 1e-12", async () => {
    expect(golden.rows.length).toBeGreaterThanOrEqual(50);
    expect(golden.rows.flat().includes(null)).toBe(true);
    const session = await InferenceSession.create(read("model.onnx"), { intraOpNumThreads: 1, interOpNumThreads: 1 });
    const width = manifest.features.length;
    const rows = Float64Array.from(golden.rows.flat(), (value) => value ?? Number.NaN);
    const answer = await session.run({ features: new Tensor("float64", rows, [golden.rows.length, width]) });
    for (const name of ["raw", "probability"] as const) {
      const got = answer[name].data as Float64Array;
      const worst = Math.max(...golden[name].map((wanted, row) => Math.abs(wanted - got[row])));
      expect(worst).toBeLessThanOrEqual(1e-12);
    }
  });
});
