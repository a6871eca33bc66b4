/** The fixture's streams with a service over them, whose labels are a stream of verdicts: for training sets of arbitrary archives. */
import fc from "fast-check";
import type { ArchiveRow } from "../../adapters/archive/archive-format.ts";
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import { identityText } from "../../core/event.ts";
import type { Contract } from "../../core/plan.ts";
import { archiveRows, HOUR_MS, START_MS } from "../adapters/offline/archive-rows.ts";
import { card, contracts, everything, payments, shop, shopView } from "./fixture-plan.ts";

const verdictContract: Contract = {
  name: "verdicts.v1",
  fields: {
    tenant: { type: "string", nullable: false },
    verdict: { type: "string", nullable: false },
    at: { type: "long", nullable: false },
    id: { type: "string", nullable: false },
    wrong: { type: "boolean", nullable: false },
  },
};
const schema: string = "verdicts.v1";
const verdicts = d.stream(schema && "verdicts", { schema, eventId: "verdict", eventTime: "at", partitionKey: "id" });

export const checks = d.featureService("checks", {
  features: [everything, shopView],
  request: { amount: "double", country: "string" },
  onDemand: {
    above_mean: ({ request, f }) => {
      const mean = f("everything:average_24h");
      return mean === null || request.amount === null ? null : Number(request.amount) > Number(mean);
    },
  },
  task: "binary",
  labels: { stream: verdicts, delay: "1d" },
});

export const { plan: checkedPlan } = compile(
  {
    entities: [card, shop],
    streams: [payments, verdicts],
    views: [everything, shopView],
    services: [checks],
  } as d.Definitions,
  { ...contracts, "verdicts.v1": verdictContract },
  EMPTY_LOCK,
  hash64,
);

export interface CheckedArchive {
  readonly payments: readonly ArchiveRow[];
  readonly verdicts: readonly ArchiveRow[];
}

function verdictRow(
  n: number,
  { payment, afterMs, wrong }: { payment: string; afterMs: number; wrong: boolean },
): ArchiveRow {
  const [eventId, eventTimeMs] = [`v${n}`, START_MS + afterMs];
  const arrivalMs = eventTimeMs + 50;
  return {
    ...{ tenant: "default", stream: "verdicts", eventId, eventTimeMs, arrivalMs },
    identity: hash64(identityText("default", "verdicts", eventTimeMs, eventId)),
    ...{ shard: "shardId-000000000000", sequence: String(arrivalMs + n), subSequence: 0 },
    fields: { tenant: "default", verdict: eventId, at: eventTimeMs, id: payment, wrong },
    fates: [],
  };
}

/** Some payments are judged, some twice, some verdicts are of nobody; one payment with a verdict is always there. */
export const checkedArchive: fc.Arbitrary<CheckedArchive> = fc
  .tuple(
    archiveRows.filter((rows) => rows.some(({ reason, identity }) => reason === undefined && identity !== null)),
    fc.array(
      fc.record({
        payment: fc.constantFrom("e1", "e2", "ë3", "e4", "e5", "nobody"),
        afterMs: fc.integer({ min: 0, max: 9 * HOUR_MS }),
        wrong: fc.boolean(),
      }),
      { maxLength: 8 },
    ),
  )
  .map(([rows, drawn]) => {
    const sure = rows.find(({ reason, identity }) => reason === undefined && identity !== null)!;
    const all = [{ payment: sure.eventId!, afterMs: 9 * HOUR_MS, wrong: true }, ...drawn];
    return { payments: rows, verdicts: all.map((each, n) => verdictRow(n, each)) };
  });
