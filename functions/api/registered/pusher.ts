/**
 * Values of registered features, from rows to the store and the archive. First pushed, then archived with the time at which they became
 * visible, then acknowledged: a push that is cut off between is sent again, and changes nothing that it has done.
 */
import type { ValuesArchive } from "../../../adapters/pushed/values-archive.ts";
import { packedLine } from "../../../adapters/pushed/values-format.ts";
import type { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { PackedWriter } from "../../../adapters/valkey/packed.ts";
import { type PushRow, pushRows } from "../../../adapters/valkey/push.ts";
import { FreshetError, InfrastructureError, RecordError, typeName } from "../../../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../../../core/event.ts";
import type { Scalar } from "../../../core/plan.ts";
import { type PushedFeature, reachOf, storedView, versionedName } from "../../../core/pushed-feature.ts";
import { MAX_PUSH_TEXT_BYTES, MIN_EVENT_TIME_MS } from "../limits.ts";
import { Problem } from "../problems.ts";
import { checkKey } from "../reading/selection.ts";

/** Values of one entity, true at one time. */
export interface PushInput {
  readonly id: unknown;
  /** Epoch ms. */
  readonly eventTimeMs: unknown;
  /** Aligned with the push's features; undefined for one that is not pushed. */
  readonly values: readonly unknown[];
}
export interface PushRefusal {
  readonly index: number;
  readonly code: string;
  readonly field?: string;
  readonly detail: string;
  readonly repair?: string;
}
export interface PushOutcome {
  readonly accepted: number;
  readonly refusals: readonly PushRefusal[];
  /** All that was accepted is seen by whoever reads from then on; null when nothing was. */
  readonly visibleMs: number | null;
}

/** The store's write side. */
export interface PushStore {
  /** `pushRows` under the epoch that stands. */
  push(rows: readonly PushRow[]): Promise<(number | null)[]>;
}
export interface PusherPorts {
  readonly store: PushStore;
  readonly archive: Pick<ValuesArchive, "append">;
  readonly clock: () => number;
}
export interface Pusher {
  /**
   * @param features distinct, all of one entity
   * @throws Problem `archive_unavailable`, InfrastructureError of the store: push all of it again
   */
  push(tenant: string, features: readonly PushedFeature[], rows: readonly PushInput[]): Promise<PushOutcome>;
}

/** What a row writes into one field of its entity's hash. */
interface FieldWrite {
  readonly view: string;
  readonly reachMs: number;
  /** Ascending by id. */
  readonly columns: readonly { readonly column: number; readonly feature: PushedFeature }[];
}

export function createPusher({ store, archive, clock }: PusherPorts): Pusher {
  return {
    async push(tenant, features, rows) {
      const fields = fieldsOf(features);
      const writer = new PackedWriter(Math.min(1 << 20, 64 + rows.length * (16 + features.length * 9)));
      const nowMs = clock();
      const pushes: PushRow[] = [];
      const rowOf: number[] = [];
      const refusals: PushRefusal[] = [];
      rows.forEach((row, index) => {
        try {
          for (const push of packRow(tenant, features[0].entity, fields, row, writer, nowMs)) {
            pushes.push(push);
            rowOf.push(index);
          }
        } catch (error) {
          refusals.push(refusalOf(index, error));
        }
      });
      const visible = pushes.length === 0 ? [] : await store.push(pushes);
      const refused = new Map<number, Problem>();
      visible.forEach((ms, p) => {
        if (!isStored(ms)) refused.set(rowOf[p], ms === null ? tooFarAhead() : erased());
      });
      for (const [index, problem] of refused) refusals.push(refusalOf(index, problem));
      await archiveRows(archive, pushes, visible);
      return {
        accepted: rows.length - refusals.length,
        refusals: refusals.sort((a, b) => a.index - b.index),
        visibleMs: visible.reduce<number | null>(
          (newest, ms) => (isStored(ms) ? Math.max(newest ?? 0, ms) : newest),
          null,
        ),
      };
    },
  };
}

function fieldsOf(features: readonly PushedFeature[]): FieldWrite[] {
  const byView = new Map<string, { column: number; feature: PushedFeature }[]>();
  features.forEach((feature, column) => {
    const columns = byView.get(feature.view);
    if (columns) columns.push({ column, feature });
    else byView.set(feature.view, [{ column, feature }]);
  });
  return [...byView].map(([view, columns]) => ({
    view: storedView(view),
    reachMs: Math.max(...columns.map(({ feature }) => reachOf(feature))),
    columns: columns.sort((a, b) => a.feature.id - b.feature.id),
  }));
}

/** A row is taken as a whole or not at all. @throws RecordError, Problem: what is wrong with it */
function packRow(
  tenant: string,
  entity: string,
  fields: readonly FieldWrite[],
  { id, eventTimeMs, values }: PushInput,
  writer: PackedWriter,
  nowMs: number,
): PushRow[] {
  if (typeof id !== "string") {
    throw new Problem("wrong_type", `id is a string, given ${typeName(id)}`, {
      field: "id",
      repair: 'send the entity\'s id in quotes, as "id": "u1"',
    });
  }
  checkKey(id, "id");
  const timeMs = checkTime(eventTimeMs, nowMs);
  const pushes: PushRow[] = [];
  for (const { view, reachMs, columns } of fields) {
    writer.begin(timeMs);
    let count = 0;
    for (const { column, feature } of columns) {
      const value = values[column];
      if (value === undefined) continue;
      try {
        checkText(value);
        writer.add(feature.id, feature.dtype, value as Scalar);
      } catch (error) {
        if (!(error instanceof RecordError)) throw error;
        const { code, message, repair } = error;
        throw new RecordError(code, `${versionedName(feature)}: ${message}`, { field: `values[${column}]`, repair });
      }
      count++;
    }
    if (count > 0) pushes.push({ tenant, entity, id, view, eventTimeMs: timeMs, packed: writer.end(), reachMs });
  }
  if (pushes.length > 0) return pushes;
  throw new Problem("row_shape", "values is an array as long as features, in their order, or one or more by name", {
    field: "values",
    repair: 'send null where there is no value, or name those that there are: "values": {"profile:age": 34}',
  });
}

/** Bounds what one push makes the store take apart. */
function checkText(value: unknown): void {
  if (typeof value !== "string" || value.length * 3 <= MAX_PUSH_TEXT_BYTES) return;
  const bytes = Buffer.byteLength(value);
  if (bytes <= MAX_PUSH_TEXT_BYTES) return;
  throw new RecordError("value_too_long", `a text has at most ${MAX_PUSH_TEXT_BYTES} bytes, given ${bytes}`, {
    repair: "keep long texts elsewhere and push what finds them",
  });
}

function checkTime(value: unknown, nowMs: number): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < MIN_EVENT_TIME_MS) {
    const given = typeof value === "number" ? (Number.isNaN(value) ? "another text" : value) : typeName(value);
    throw new Problem(
      "event_time_invalid",
      `event_time_ms is when the values were true, from 2000 on, given ${given}`,
      {
        field: "event_time_ms",
        repair: "send milliseconds since 1970, or ISO 8601 with its zone",
      },
    );
  }
  if (value > nowMs + FUTURE_LIMIT_MS) throw tooFarAhead();
  return value;
}

const tooFarAhead = () =>
  new Problem("event_time_future", `event_time_ms is more than ${FUTURE_LIMIT_MS} ms ahead`, {
    field: "event_time_ms",
    repair: "set the producer's clock, or push the values when they are true",
  });

const erased = () =>
  new Problem("entity_erased", "the entity has been erased, and the values are of a time before that", {
    field: "event_time_ms",
    repair:
      "push what became true since, a few minutes after the erasure; GET /v1/erasures tells whether it is refused for ever",
  });

/** As the store answers: null for one too far ahead, 0 for one of an erased time. */
const isStored = (visibleMs: number | null): visibleMs is number => visibleMs !== null && visibleMs > 0;

function refusalOf(index: number, error: unknown): PushRefusal {
  if (!(error instanceof FreshetError) || error instanceof InfrastructureError) throw error;
  const { code, field, message, repair } = error;
  return { index, code, field: `rows[${index}]${field === undefined ? "" : `.${field}`}`, detail: message, repair };
}

/** Also what changed nothing: the archive says when each value was pushed first and last. */
async function archiveRows(
  archive: PusherPorts["archive"],
  pushes: readonly PushRow[],
  visible: readonly (number | null)[],
): Promise<void> {
  const byView = new Map<string, { tenant: string; lines: string; firstMs: number }>();
  pushes.forEach((push, p) => {
    const visibleMs = visible[p];
    if (!isStored(visibleMs)) return;
    const open = byView.get(push.view) ?? { tenant: push.tenant, lines: "", firstMs: visibleMs };
    open.lines += packedLine({ ...push, visibleMs });
    open.firstMs = Math.min(open.firstMs, visibleMs);
    byView.set(push.view, open);
  });
  try {
    await Promise.all(
      [...byView].map(([view, { tenant, lines, firstMs }]) => archive.append(tenant, view, lines, firstMs)),
    );
  } catch (cause) {
    throw new Problem("archive_unavailable", "the archive of pushed values does not answer", {
      repair: "push all of it again: what was done already stays as it is",
      headers: { "retry-after": "2" },
      cause,
    });
  }
}

/** The write side under the epoch that stands; one that was replaced is asked for anew, once. */
export function createPushStore(open: () => Promise<StoreApplier>, isStale: (error: unknown) => boolean): PushStore {
  let applier: Promise<StoreApplier> | null = null;
  const current = () => {
    applier ??= open().catch((error) => {
      applier = null;
      throw error;
    });
    return applier;
  };
  return {
    async push(rows) {
      try {
        return await pushRows(await current(), rows);
      } catch (error) {
        if (!isStale(error)) throw error;
        applier = null;
        return pushRows(await current(), rows);
      }
    },
  };
}
