import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { InferenceRow } from "../../../adapters/inference-log/inference-log-format.ts";
import { spineFile } from "../../../adapters/offline/given-spine.ts";
import type { SpineSource } from "../../../adapters/offline/training-set.ts";
import { FRAUD_START, labelRow, paymentRow } from "../../support/fraud-archive.ts";
import { inferenceRow } from "../../support/inference-row.ts";
import { trainingWorld } from "../../support/training-world.ts";

const MINUTE = 60_000;
const at = (minutes: number) => FRAUD_START + minutes * MINUTE;

const world = trainingWorld("fraud", [
  paymentRow({ id: "p1", timeMs: at(0), card: "c1", amount: 10 }),
  paymentRow({ id: "p2", timeMs: at(2), card: "c1", amount: 30.5 }),
  paymentRow({ id: "p3", timeMs: at(4), card: "c1", amount: 20 }),
  labelRow({ id: "l2", payment: "p2", timeMs: at(10), fraud: true }),
  labelRow({ id: "l2-again", payment: "p2", timeMs: at(20), fraud: false }),
  labelRow({ id: "l3", payment: "p3", timeMs: at(10), fraud: true }),
]);

const score = (eventId: string | null, minutes: number, more: Partial<InferenceRow> = {}) =>
  inferenceRow({
    ...{ eventId, asOfMs: at(minutes), requestId: `r-${minutes}` },
    keys: { card_id: "c1", merchant_id: null },
    request: { amount: 12.5, country: "NO" },
    ...more,
  });
const fromLog = (rows: readonly InferenceRow[]): SpineSource => ({
  kind: "log",
  stream: "labels",
  async *rows({ fromMs, toMs }) {
    yield* rows.filter(({ asOfMs }) => asOfMs >= fromMs && asOfMs < toMs);
  },
});
const { build, definition } = world;

describe("a training set from the log", () => {
  it("has each scored event with a label once, at its first score, with the request of then", async () => {
    const rows = [
      score("p3", 5),
      // Asked again, and written to an earlier object.
      score("p3", 3.9, { request: { amount: 20, country: null } }),
      score("p2", 1.9),
      score("p1", 1),
      score(null, 1),
      score("p2", 8, { request: { amount: 1 } }),
      score("nobody", 2),
    ];
    const manifest = await build(fromLog(rows));
    expect(manifest).toMatchObject({
      ...{ as_of_rule: "log", row_count: 2, positives: 1, own_event_visible_rows: null },
      left_out: { no_event_id: 1, no_label: 2, other_request: 1, scored_again: 1 },
    });
    const [p2, p3] = await world.rows();
    expect(p2).toMatchObject({
      ...{ event_id: "p2", as_of_ms: BigInt(at(1.9)), card_id: "c1", merchant_id: null, label: 0 },
      ...{ "request:amount": 12.5, "request:country": "NO", "card_activity:tx_count_1h": 1n },
    });
    expect(p3).toMatchObject({
      ...{ event_id: "p3", as_of_ms: BigInt(at(3.9)), label: 1, "request:amount": 20, "request:country": null },
      ...{ "card_activity:tx_count_1h": 2n, "card_activity:amount_sum_1h": 40.5 },
    });
  });

  it("joins what a given spine of the same rows does", async () => {
    await build(fromLog([score("p2", 1.9), score("p3", 3.9)]));
    const logged = await world.rows();
    const file = world.newFile("csv");
    const line = (id: string, minutes: number, label: number) => `${at(minutes)},c1,${id},${label},12.5,NO`;
    const head = "as_of_ms,card_id,event_id,label,amount,country";
    writeFileSync(file, [head, line("p2", 1.9, 0), line("p3", 3.9, 1), ""].join("\n"));
    world.nextSet();
    await build(spineFile(file));
    // Which keeps columns of its own besides.
    expect(await world.rows()).toMatchObject(logged);
  });

  it("takes scores of the range alone, and says what it found when none has a label", async () => {
    const rows = [score("p2", 1.9), score("p3", 3.9), score("p1", 2.5), score(null, 2.5)];
    expect(await build(fromLog(rows), { fromMs: at(3), toMs: at(4) })).toMatchObject({ row_count: 1, from_ms: at(3) });
    world.nextSet();
    await expect(build(fromLog(rows), { fromMs: at(2), toMs: at(3) })).rejects.toMatchObject({
      code: "labels_empty",
      message: "no score of the range has a label (1 no_event_id, 1 no_label, 0 other_request, 0 scored_again)",
    });
  });

  it("refuses a log that holds a request field as a hash only", async () => {
    const hiding = { ...definition, log: { sample: 1, pii: ["country"] } };
    await expect(build(fromLog([score("p2", 1.9)]), { definition: hiding })).rejects.toMatchObject({
      code: "log_hashed",
      message: "the log of fraud holds country as a hash only",
    });
  });
});
