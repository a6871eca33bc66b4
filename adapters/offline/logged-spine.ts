/** A spine of what was scored: instants, keys and request fields from the inference log, labels joined by event id. */
import type { FeatureServiceDefinition } from "../../core/definition.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Plan, Scalar, Service, Stream } from "../../core/plan.ts";
import type { InferenceRow } from "../inference-log/inference-log-format.ts";
import type { DuckSession } from "./duckdb.ts";
import { declaredOutcomes, outcomesByEvent } from "./outcomes.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { newestLabels, readScores } from "./scored-outcomes.ts";
import { entitiesOf, labelJoin, measured, REQUEST_TYPES, requestColumn, type SpineTable } from "./spine.ts";
import type { SpineSource } from "./training-set.ts";

/** What was scored of a service, as the source of a training set. @param of `stream` is that of the outcomes */
export function loggedScores(
  s3: Parameters<typeof readScores>[0],
  bucket: string,
  { stream, ...log }: { readonly tenant: string; readonly service: string; readonly stream: string },
): SpineSource {
  return { kind: "log", stream, rows: (range) => readScores(s3, bucket, { ...log, ...range }) };
}

export interface LoggedSpineOptions {
  readonly plan: Plan;
  readonly service: Service;
  readonly definition: Pick<FeatureServiceDefinition, "labels" | "log">;
  /** Stream of the outcomes. */
  readonly labels: string;
  /** Of the service and the range. */
  readonly rows: AsyncIterable<InferenceRow>;
  /** Brings all of a stream to DuckDB. @returns the relation */
  readonly mount: (stream: Stream) => Promise<string>;
}

/** Rows that are handed to DuckDB at once. */
const ROWS_A_CHUNK = 50_000;

/**
 * A row for each event that was scored and has a label, at the instant of its first score. Left out, by reason: `no_event_id` (nobody can
 * tell its outcome), `no_label`, `other_request` (scored by a plan with other request fields), `scored_again`.
 * @throws FreshetError `log_hashed`, `labels_unclear`, `labels_empty`, and those of reading the log and the archive
 */
export async function spineFromLog(session: DuckSession, options: LoggedSpineOptions): Promise<SpineTable> {
  const { plan, service, definition } = options;
  const [hashed] = definition.log.pii;
  if (hashed !== undefined) {
    throw new FreshetError("log_hashed", `the log of ${service.name} holds ${hashed} as a hash only`, {
      field: "from-log",
      repair: "build the set from labels, or give a spine with the field's values",
    });
  }
  const labels = await labelsByEvent(session, options);
  const leftOut = { no_event_id: 0, no_label: 0, other_request: 0, scored_again: 0 };
  const names = Object.keys(service.request);
  const entities = entitiesOf(plan, service);
  await session.run(`CREATE OR REPLACE TEMP TABLE logged (
  "as of" BIGINT, "event id" VARCHAR, "request id" VARCHAR, "label" INTEGER${entities.map(({ name }) => `, ${keyColumn(name)} VARCHAR`).join("")}
  ${names.map((name) => `, ${requestColumn(name)} ${REQUEST_TYPES[service.request[name]!]}`).join("")}
)`);
  let chunk: InferenceRow[] = [];
  const flush = async () => {
    if (chunk.length === 0) return;
    await session.append("logged", [
      chunk.map(({ asOfMs }) => BigInt(asOfMs)),
      chunk.map(({ eventId }) => eventId),
      chunk.map(({ requestId, row }) => `${requestId}/${row}`),
      chunk.map(({ eventId }) => Number(labels.get(eventId!))),
      ...entities.map(({ joinKey }) => chunk.map(({ keys }) => keys[joinKey] || null)),
      ...names.map((name) => chunk.map(({ request }) => stored(service.request[name]!, request[name] ?? null))),
    ]);
    chunk = [];
  };
  for await (const row of options.rows) {
    if (row.eventId === null) leftOut.no_event_id++;
    else if (!labels.has(row.eventId)) leftOut.no_label++;
    else if (!names.every((name) => name in row.request)) leftOut.other_request++;
    else if (chunk.push(row) === ROWS_A_CHUNK) await flush();
  }
  await flush();
  // A lost answer is asked for again: the first is what was decided on.
  await session.run(`
CREATE OR REPLACE TABLE spine AS
SELECT row_number() OVER (ORDER BY "as of", "event id") - 1 AS "row id", CAST(NULL AS BIGINT) AS "own visible", * EXCLUDE ("request id")
FROM (SELECT * FROM logged QUALIFY row_number() OVER (PARTITION BY "event id" ORDER BY "as of", "request id") = 1)`);
  const [{ logged }] = await session.rows("SELECT count(*) AS logged FROM logged");
  const table = await measured(session, [], leftOut, false);
  leftOut.scored_again = Number(logged) - table.rows;
  if (table.rows > 0) return table;
  const found = Object.entries(leftOut).map(([reason, count]) => `${count} ${reason}`);
  throw new FreshetError("labels_empty", `no score of the range has a label (${found.join(", ")})`, {
    repair: "widen --from and --to, send the event's id along with scores, or wait for labels",
  });
}

async function labelsByEvent(session: DuckSession, options: LoggedSpineOptions): Promise<Map<string, boolean>> {
  const { plan, service, definition, labels, mount } = options;
  const outcomes = declaredOutcomes(plan, definition, labels);
  if (outcomes !== null) return outcomesByEvent(session, await mount(outcomes.stream), outcomes);
  const join = labelJoin(plan, service, labels);
  return newestLabels(session, await mount(join.labels), join);
}

/** As DuckDB takes it. A whole number that JSON has carried is exact up to 2^53. */
const stored = (type: keyof typeof REQUEST_TYPES, value: Scalar): Scalar | bigint =>
  type === "long" && typeof value === "number" ? BigInt(Math.trunc(value)) : value;
