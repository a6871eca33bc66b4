/**
 * From simulated visits to a ranking: what was shown and clicked becomes a training set, a model is trained by the same program as
 * any other, and `POST /v1/rank` puts what is clicked later ahead of what is not. The store's answers are the training set's
 * own values, so the scores over HTTP have to be those of the offline rows.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { openModel } from "../../adapters/model/open.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { buildTrainingSet } from "../../adapters/offline/training-set.ts";
import type { Scalar } from "../../core/plan.ts";
import { createEncoder } from "../../core/scoring/vector.ts";
import { plan } from "../../features/plan.ts";
import { recommendation as definition } from "../../features/recommendation.ts";
import { createApp } from "../../functions/api/app.ts";
import { createKey } from "../../functions/api/keys/keys.ts";
import { Ceiling } from "../../local/generator/ceiling.ts";
import { simulate } from "../../local/generator/simulate.ts";
import { train } from "../../local/sagemaker/train.ts";
import { testDependencies } from "../functions/api/doubles.ts";
import { fraudArchive, simulatedClickRow } from "../support/fraud-archive.ts";

const DAY = 86_400_000;
const MONDAY = Date.UTC(2026, 0, 5);
const DAYS = 10;
const folder = mkdtempSync(join(tmpdir(), "freshet-ranking-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Row = Record<string, unknown>;
const scalar = (given: unknown): Scalar => (typeof given === "bigint" ? Number(given) : (given as Scalar));

it("a model learnt from what was shown and clicked ranks what is clicked later ahead of what is not", {
  tags: ["slow"],
}, async () => {
  const service = plan.services.find(({ name }) => name === "recommendation")!;
  const world = { seed: 7, customers: 60, merchants: 10, transactionsPerSecond: 0, clicksPerSecond: 0.02 };
  const events = [...simulate({ ...world, fromMs: MONDAY, toMs: MONDAY + DAYS * DAY, streams: ["clicks"] })];
  const ceiling = new Ceiling();
  for (const { showing } of events) if (showing !== null) ceiling.add(showing.probability, showing.clicked);

  const session = await DuckSession.open({ folder: join(folder, "duck") });
  const set = join(folder, "set");
  const built = await buildTrainingSet(session, {
    plan,
    service,
    definition,
    tenant: "default",
    spine: { kind: "labels", stream: "clicks", asOf: "event_time" },
    fromMs: MONDAY + DAY,
    toMs: MONDAY + DAYS * DAY,
    labelDelayMs: 1_800_000,
    mount: fraudArchive(session, join(folder, "archive"), events.map(simulatedClickRow)),
    mountValues: async () => "of no batch view",
    out: set,
  });
  expect(built.own_event_visible_rows).toBe(0);
  const trained = await train(folder, {
    jobName: "ranking",
    trainingSet: set,
    hyperparameters: { service: service.name, plan_hash: plan.hash, num_trees: "60", num_threads: "1" },
    onLine() {},
  });
  // Better than chance by far, and no better than the truth allows: features that saw an outcome would be.
  const best = ceiling.best().rocAuc!;
  expect(trained.metrics["roc_auc"]).toBeGreaterThan(0.6);
  expect(trained.metrics["roc_auc"]).toBeLessThan(best);

  const files = readdirSync(trained.folder).map((name) => [name, readFileSync(join(trained.folder, name))]);
  const model = await openModel(Object.fromEntries(files));
  const { slices } = JSON.parse(readFileSync(join(trained.folder, "metrics.json"), "utf8"));
  const rows = (await session.rows(
    `SELECT * FROM read_parquet('${set}/*.parquet') WHERE as_of_ms BETWEEN ${slices.test.from_ms} AND ${slices.test.to_ms}`,
  )) as Row[];
  session.close();

  const ports = testDependencies();
  const champion = { name: "recommendation@1", model, encode: createEncoder(model.manifest.features) };
  const served = { champion, challenger: null, shadow: null, share: null, fault: null };
  const scoring: any = {
    serving: { served: () => served, state: () => ({ polledMs: 1, loaded: 1, refused: [] }) },
    logger: { record() {} },
  };
  const app = createApp({ ...ports.dependencies, scoring });
  const { key } = await createKey(ports.keys, { tenant: "default", scopes: ["score"], nowMs: 0 });
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const know = (entity: string, id: string, row: Row) => {
    const names = service.features.filter((name) => name.startsWith(`${entity}_`));
    const values = names.map((name) => {
      const value = scalar(row[name]);
      return [name, { value, status: value === null ? "NULL_VALUE" : "PRESENT", eventTimeMs: 1 }];
    });
    ports.reader.values.set(`default/${entity}/${id}`, Object.fromEntries(values));
  };

  let [ahead, pairs] = [0, 0];
  const lists = Map.groupBy(rows, (row) => `${row["user_id"]} ${row["as_of_ms"]}`);
  for (const list of lists.values()) {
    const clicked = list.filter(({ label }) => label === 1).map((row) => row["item_id"]);
    if (clicked.length === 0 || clicked.length === list.length) continue;
    for (const row of list) {
      know("user", String(row["user_id"]), row);
      know("item", String(row["item_id"]), row);
    }
    const candidates = list.map((row) => ({ item_id: row["item_id"], category: row["request:category"] }));
    const body = JSON.stringify({ user_id: list[0]["user_id"], candidates });
    const answer: any = await (await app.request("/v1/rank/recommendation", { method: "POST", headers, body })).json();
    expect(answer.model_version).toBe("recommendation@1");
    const vectors = list.map((row) => champion.encode(model.manifest.features.map(({ name }) => scalar(row[name]))));
    const offline = new Map(
      (await model.score(vectors)).map(({ probability }, i) => [list[i]["item_id"], probability]),
    );
    for (const { id, score } of answer.items) expect(score).toBe(offline.get(id));
    const ranks: string[] = answer.items.map(({ id }: { id: string }) => id);
    for (const good of clicked) {
      for (const other of ranks.filter((id) => !clicked.includes(id))) {
        pairs++;
        if (ranks.indexOf(good as string) < ranks.indexOf(other)) ahead++;
      }
    }
  }
  await model.close();
  expect(pairs).toBeGreaterThan(100);
  expect(ahead / pairs).toBeGreaterThan(0.55);
});
