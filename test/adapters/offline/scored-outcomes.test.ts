import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  encodeInferenceLog,
  type InferenceRow,
  inferenceLine,
} from "../../../adapters/inference-log/inference-log-format.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { newestLabels, outcomesOf, readScores } from "../../../adapters/offline/scored-outcomes.ts";
import { inferenceRow } from "../../support/inference-row.ts";

const LIMITS = { review: 0.3, decline: 0.6 };
async function* stream(rows: readonly InferenceRow[]) {
  yield* rows;
}

describe("outcomes", () => {
  const row = (eventId: string | null, more: Partial<InferenceRow> = {}) =>
    inferenceRow({ eventId, shadow: null, ...more });

  it("are each event's first score beside its label; what chance has not dealt and what nobody can join is left out", async () => {
    const rows = [
      row("a", { score: 0.9, decision: "decline" }),
      row("a", { score: 0.1, decision: "approve" }),
      row("b", { variant: "challenger", model: "m@2", score: 0.2, decision: "approve", keys: { card_id: "c2" } }),
      row("c", { assigned: "request" }),
      row(null),
      row("d", { assigned: "only" }),
    ];
    const { outcomes, leftOut } = await outcomesOf(
      stream(rows),
      new Map([
        ["a", true],
        ["b", false],
      ]),
      LIMITS,
      "card_id",
    );
    expect(outcomes).toEqual([
      { unit: "key c1", arm: "champion fraud-lightgbm@7", score: 0.9, declined: true, positive: true },
      { unit: "key c2", arm: "challenger m@2", score: 0.2, declined: false, positive: false },
    ]);
    expect(leftOut).toEqual({ asked_for: 1, not_dealt: 1, no_event_id: 1, scored_again: 1 });
  });

  it("of a shadow stand beside the champion's on the rows that it answered, dealt or not, held to the service's limits", async () => {
    const shadow = (score: number) => ({ shadow: { model: "m@3", score, raw: 0 } });
    const rows = [
      row("e0", shadow(0.59)),
      row("e1", { ...shadow(0.6), assigned: "only", keys: { card_id: null } }),
      row("e2", { ...shadow(0.9), variant: "challenger" }),
      row("e3", { ...shadow(0.9), assigned: "request" }),
    ];
    const { pairs, outcomes } = await outcomesOf(stream(rows), new Map([["e1", true]]), LIMITS, "card_id");
    const champion = { arm: "champion fraud-lightgbm@7", score: 0.25, declined: false };
    const beside = (score: number, declined: boolean) => ({ arm: "shadow m@3", score, declined });
    expect(pairs).toEqual([
      { unit: "key c1", positive: null, champion, shadow: beside(0.59, false) },
      { unit: "event e1", positive: true, champion, shadow: beside(0.6, true) },
    ]);
    expect(outcomes.map(({ arm }) => arm.split(" ")[0])).toEqual(["champion", "challenger"]);
  });

  it("are grouped by the experiment's key, which may be a request field", async () => {
    const rows = [row("a", { request: { country: "SE" } })];
    const { outcomes } = await outcomesOf(stream(rows), new Map(), LIMITS, "country");
    expect(outcomes[0].unit).toBe("key SE");
  });
});

describe("scores", () => {
  it("are read from the objects of the hours asked for, page after page, and cut to the instants", async () => {
    const from = Date.UTC(2026, 0, 1, 10);
    const hour = 3_600_000;
    const at = (asOfMs: number) => inferenceRow({ asOfMs });
    const folder = "inference-log/tenant=team-a/service=fraud/dt=2026-01-01";
    const objects: Record<string, InferenceRow[]> = {
      [`${folder}/hh=09/x.ndjson.zst`]: [at(from - 1)],
      [`${folder}/hh=10/x.ndjson.zst`]: [at(from), at(from + hour - 1)],
      [`${folder}/hh=11/x.ndjson.zst`]: [at(from + hour), at(from + hour + 5)],
      [`${folder}/hh=13/x.ndjson.zst`]: [at(from + 3 * hour)],
    };
    const fetched: string[] = [];
    const send = async ({ input }: any) => {
      if ("Prefix" in input) {
        expect(input.Prefix).toBe("inference-log/tenant=team-a/service=fraud/");
        const keys = Object.keys(objects);
        const page = input.ContinuationToken === undefined ? keys.slice(0, 2) : keys.slice(2);
        return {
          Contents: page.map((Key) => ({ Key })),
          NextContinuationToken: input.ContinuationToken === undefined ? "more" : undefined,
        };
      }
      fetched.push(input.Key);
      const body = await encodeInferenceLog(Buffer.from(objects[input.Key].map(inferenceLine).join("")));
      return { Body: { transformToByteArray: async () => body } };
    };
    const range = { tenant: "team-a", service: "fraud", fromMs: from, toMs: from + hour + 5 };
    const rows: number[] = [];
    for await (const { asOfMs } of readScores({ send } as any, "b", range)) rows.push(asOfMs);
    expect(rows).toEqual([from, from + hour - 1, from + hour]);
    expect(fetched.map((key) => /hh=\d\d/.exec(key)![0])).toEqual(["hh=10", "hh=11"]);
  });
});

describe("labels", () => {
  let session: DuckSession;
  const folder = mkdtempSync(join(tmpdir(), "freshet-outcomes-"));
  beforeAll(async () => {
    session = await DuckSession.open({ folder });
  });
  afterAll(() => {
    session?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("of one event are its newest; quarantined ones count for nothing, repeated ones once", async () => {
    await session.run(`CREATE TABLE labels AS SELECT * FROM (VALUES
      ('i1', 10, NULL, {'transaction_id': 'a', 'is_fraud': true}),
      ('i2', 20, NULL, {'transaction_id': 'a', 'is_fraud': false}),
      ('i2', 20, NULL, {'transaction_id': 'a', 'is_fraud': false}),
      ('i3', 30, 'future', {'transaction_id': 'a', 'is_fraud': true}),
      ('i4', 10, NULL, {'transaction_id': 'b', 'is_fraud': true})) AS rows(identity, event_time_ms, reason, fields)`);
    const labels = await newestLabels(session, "labels", { idField: "transaction_id", valueField: "is_fraud" } as any);
    expect(labels).toEqual(
      new Map([
        ["a", false],
        ["b", true],
      ]),
    );
  });
});
