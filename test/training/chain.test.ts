/**
 * From an archive to a model that serving opens: the training set as it is built, the program as it is started. That both ends
 * encode a row alike shows in the log loss: serving's own encoder and runtime have to find, over the test slice, the one in the
 * manifest.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { openModel } from "../../adapters/model/open.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { buildTrainingSet } from "../../adapters/offline/training-set.ts";
import type { Scalar } from "../../core/plan.ts";
import { checkFeatures, createEncoder } from "../../core/scoring/vector.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import { train } from "../../local/sagemaker/train.ts";
import { FRAUD_START, fraudArchive } from "../support/fraud-archive.ts";
import { fraudHistory } from "../support/fraud-history.ts";

const DAY = 86_400_000;
const ROWS = 1_600;
const folder = mkdtempSync(join(tmpdir(), "freshet-chain-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("an archive becomes a model that scores in Node as it was measured in Python", async () => {
  const { payments, labels } = fraudHistory(ROWS);
  const service = plan.services.find(({ name }) => name === "fraud")!;
  const definition = definitions.services.find(({ name }) => name === "fraud")!;
  const set = join(folder, "set");
  const session = await DuckSession.open({ folder: join(folder, "duck") });
  const mount = fraudArchive(session, join(folder, "archive"), [...payments, ...labels]);
  const built = await buildTrainingSet(session, {
    plan,
    service,
    definition,
    tenant: "default",
    spine: { kind: "labels", stream: "labels", asOf: "event_time" },
    fromMs: FRAUD_START,
    toMs: FRAUD_START + 31 * DAY,
    labelDelayMs: 2 * DAY,
    mount,
    mountValues: async () => "of no batch view",
    out: set,
  });
  expect(built.row_count).toBe(ROWS);

  const trained = await train(folder, {
    jobName: "chain",
    trainingSet: set,
    hyperparameters: { service: "fraud", plan_hash: plan.hash, num_trees: "40", num_threads: "1" },
    onLine() {},
  });
  expect(trained.metrics["roc_auc"]).toBeGreaterThan(0.8);
  const files = readdirSync(trained.folder).map((name) => [name, readFileSync(join(trained.folder, name))]);
  const model = await openModel(Object.fromEntries(files));
  checkFeatures(plan, service, model.manifest.features);

  const { slices } = JSON.parse(readFileSync(join(trained.folder, "metrics.json"), "utf8"));
  const rows = await session.rows(
    `SELECT * FROM read_parquet('${set}/*.parquet') WHERE as_of_ms BETWEEN ${slices.test.from_ms} AND ${slices.test.to_ms}`,
  );
  session.close();
  expect(rows.length).toBe(slices.test.rows);
  const encode = createEncoder(model.manifest.features);
  const value = (given: unknown): Scalar => (typeof given === "bigint" ? Number(given) : (given as Scalar));
  const scores = await model.score(
    rows.map((row) => encode(model.manifest.features.map(({ name }) => value(row[name])))),
  );
  await model.close();
  const losses = scores.map(({ probability: p }, at) => -Math.log(rows[at]["label"] === 1 ? p : 1 - p));
  const loss = losses.reduce((sum, each) => sum + each, 0) / losses.length;
  expect(Math.abs(loss - trained.metrics["log_loss"]!)).toBeLessThan(1e-12);
});
