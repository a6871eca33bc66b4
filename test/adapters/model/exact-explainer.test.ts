import { afterAll, beforeAll, expect, it } from "vitest";
import { createExactExplainer } from "../../../adapters/model/exact-explainer.ts";
import { calibrated, type Model, openModel } from "../../../adapters/model/open.ts";
import { shapContributions } from "../../../core/scoring/trees.ts";
import { modelFiles, modelJson } from "../../support/model-fixture.ts";

let model: Model;
let other: Model;
const rows: Float64Array[] = modelJson("golden.json").rows.map((row: (number | null)[]) =>
  Float64Array.from(row, (value) => value ?? Number.NaN),
);
const wanted = (of: Model, row: Float64Array) =>
  calibrated("shap", of.sidecar, shapContributions(of.sidecar.trees, of.means, row));

beforeAll(async () => {
  [model, other] = [await openModel(modelFiles), await openModel(modelFiles)];
});
afterAll(async () => {
  await Promise.all([model?.close(), other?.close()]);
});

it("answers many questions at once, of several models, each with its own answer", async () => {
  const explainer = createExactExplainer();
  const asked = rows.flatMap((row) => [model, other].map((of) => ({ of, row })));
  const answers = await Promise.all(asked.map(({ of, row }) => explainer.explain(of, row)));
  expect(answers).toEqual(asked.map(({ of, row }) => wanted(of, row)));
  await explainer.close();
});

it("gives the path's explanation, and says so, when the thread is too slow; the next one is exact again", async () => {
  const hasty = createExactExplainer({ timeoutMs: 0 });
  expect((await hasty.explain(model, rows[0])).method).toBe("path");
  await hasty.close();
  const patient = createExactExplainer();
  expect((await patient.explain(model, rows[0])).method).toBe("shap");
  await patient.close();
});

it("goes on after its thread has ended", async () => {
  const explainer = createExactExplainer();
  expect((await explainer.explain(model, rows[0])).method).toBe("shap");
  await explainer.close();
  expect(await explainer.explain(model, rows[1])).toEqual(wanted(model, rows[1]));
  await explainer.close();
});

it("sends a model's trees again when the thread has forgotten them", async () => {
  const explainer = createExactExplainer();
  const many = await Promise.all(Array.from({ length: 9 }, () => openModel(modelFiles)));
  for (const each of many) expect((await explainer.explain(each, rows[0])).method).toBe("shap");
  // The ninth has pushed the first out: one answer along the path, then exact ones.
  expect((await explainer.explain(many[0], rows[0])).method).toBe("path");
  expect((await explainer.explain(many[0], rows[0])).method).toBe("shap");
  await explainer.close();
  for (const each of many) await each.close();
});
