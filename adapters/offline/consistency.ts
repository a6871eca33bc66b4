/**
 * Is what was served what training would see? A sample of logged scores is joined again from the archive at its own instants, and
 * compared feature by feature and hour by hour.
 */

import { FreshetError } from "../../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../../core/event.ts";
import type { Entity, Group, Plan, Scalar, Service, Stream } from "../../core/plan.ts";
import { type PushedFeature, storedView } from "../../core/pushed-feature.ts";
import { hash64 } from "../hash.ts";
import type { InferenceRow } from "../inference-log/inference-log-format.ts";
import type { DuckSession } from "./duckdb.ts";
import { entityEventsSql } from "./entity-events.ts";
import { groupsOf, joinPointInTime, seenRange } from "./point-in-time.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { batchFeaturesOf, joinPushed, joinRegistered, type MountValues } from "./pushed-in-time.ts";
import { windowedOf } from "./training-part.ts";
import type { MountStream } from "./training-set.ts";

/** An event that becomes visible this close to a read may or may not be in it: clocks of store and reader differ. */
const RACE_MS = 2_000;
const HOUR_MS = 3_600_000;
/** Rows that are joined at once; a check of more is one of a smaller sample. */
const MAX_ROWS = 1_000_000;
/** Hosts may know a registration this much later than its table: longer than any of them goes on without having looked. */
const REGISTRATION_MS = 10_000;

/** One feature over one hour of instants. */
export interface ConsistencyRow {
  readonly feature: string;
  readonly hourMs: number;
  matches: number;
  mismatches: number;
  /** Null when it was served, with a value in the archive; and the other way round. */
  nullOnline: number;
  nullOffline: number;
  /**
   * An event of the entity, or a value of a batch or registered feature's view, became visible within 2 s of the read, or the feature was
   * registered shortly before it: neither right nor wrong.
   */
  racing: number;
  /** Symmetric mean absolute percentage error over pairs of numbers, 0 to 2; null without any. */
  smape: number | null;
}

export interface ConsistencyReport {
  readonly service: string;
  readonly planHash: string;
  readonly rowsChecked: number;
  /** Rows of the log that are not compared: of another plan, read without the store, or not in the sample. */
  readonly leftOut: Readonly<Record<"other_plan" | "not_read" | "not_sampled", number>>;
  readonly features: readonly ConsistencyRow[];
}

export interface ConsistencyOptions {
  readonly plan: Plan;
  readonly service: Service;
  readonly rows: AsyncIterable<InferenceRow>;
  /** Share of the log, 0 to 1, chosen by hash of the request: the same rows each time. */
  readonly sample: number;
  /** What the tenant has registered of the service's features, by their names there; nothing can have been served of the others. @default none */
  readonly inputs?: ReadonlyMap<string, PushedFeature>;
  readonly mount: MountStream;
  /** Of batch views and of registered features. */
  readonly mountValues: MountValues;
  readonly onProgress?: (share: number) => void;
}

/** @throws FreshetError `log_empty`, `too_many_rows`, and those of reading the archive */
export async function checkConsistency(session: DuckSession, options: ConsistencyOptions): Promise<ConsistencyReport> {
  const { plan, service, inputs = new Map() } = options;
  const leftOut = { other_plan: 0, not_read: 0, not_sampled: 0 };
  const logged: InferenceRow[] = [];
  for await (const row of options.rows) {
    if (row.planHash !== plan.hash) leftOut.other_plan++;
    else if (row.statuses.length === 0) leftOut.not_read++;
    else if (!sampled(row, options.sample)) leftOut.not_sampled++;
    else logged.push(row);
    if (logged.length > MAX_ROWS) {
      throw new FreshetError("too_many_rows", `the sample has more than ${MAX_ROWS} rows`, {
        repair: "give a smaller --sample",
      });
    }
  }
  if (logged.length === 0) {
    const found = Object.entries(leftOut).map(([reason, count]) => `${count} ${reason}`);
    throw new FreshetError(
      "log_empty",
      `the inference log has no row of this plan in the range (${found.join(", ")})`,
      {
        repair: "widen --from and --to, or raise --sample",
      },
    );
  }
  const entities = service.entities.map((name) => plan.entities.find((entity) => entity.name === name)!);
  await makeSpine(session, entities, logged);
  const times = logged.map(({ asOfMs }) => asOfMs);
  const spine = { relation: "spine", rows: logged.length, fromMs: min(times), toMs: max(times) };
  const mounted = await mountStreams(options, spine);
  const events = (group: Group) => entityEventsSql(plan, group.entity, { archive: mounted.get(group.stream)! });
  const { mountValues } = options;
  const batch = [...batchFeaturesOf(plan, service.features).values()].flat().map(({ name }) => name);
  const registered = new Set((service.registered ?? []).map(({ name }) => name));
  const features = [...windowedOf(plan, service), ...batch, ...registered];
  const joined = [
    ...(await joinPointInTime(session, {
      ...{ plan, spine, events, features: windowedOf(plan, service) },
      onProgress: options.onProgress,
    })),
    ...(await joinPushed(session, { plan, names: batch, spine, mount: mountValues })),
    ...(await joinRegistered(session, { features: inputs, spine, mount: mountValues })),
  ];
  // What the tenant has not registered has no column, and no value at any instant.
  const columns = features.map((name) => joined.find((column) => column.name === name)?.values);
  /** Rows that race, by feature. */
  const racing = new Map<string, Set<number>>();
  for (const [group, members] of groupsOf(plan, service.features)) {
    const near = await racingRows(session, group.entity, events(group));
    for (const { feature } of members) racing.set(feature.name, near);
  }
  const pushedWithin = async (view: string, entity: string) => {
    const values = await mountValues(view, spine.toMs + RACE_MS);
    return racingRows(session, entity, `SELECT id, visible_ms FROM ${values}`);
  };
  for (const [view, members] of batchFeaturesOf(plan, service.features)) {
    const near = await pushedWithin(view.name, view.entity);
    for (const { name } of members) racing.set(name, near);
  }
  for (const [name, { view, entity, registeredMs }] of inputs) {
    const near = await pushedWithin(storedView(view), entity);
    times.forEach((asOfMs, i) => {
      if (asOfMs >= registeredMs - RACE_MS && asOfMs < registeredMs + REGISTRATION_MS) near.add(i);
    });
    racing.set(name, near);
  }

  const found = new Map<string, Tally>();
  features.forEach((name, f) => {
    const near = racing.get(name);
    logged.forEach((row, i) => {
      const at = row.features.indexOf(name);
      if (at < 0 || (registered.has(name) && row.degraded === "catalogue_unavailable")) return;
      const hourMs = Math.floor(row.asOfMs / HOUR_MS) * HOUR_MS;
      const tally = found.get(`${name} ${hourMs}`) ?? new Tally(name, hourMs);
      found.set(`${name} ${hourMs}`, tally);
      const value = columns[f]?.[i] ?? null;
      // A service takes no lists.
      tally.add(row.values[at] as Scalar, Number.isNaN(value) ? null : (value as Scalar), near?.has(i) ?? false);
    });
  });
  return {
    service: service.name,
    planHash: plan.hash,
    rowsChecked: logged.length,
    leftOut,
    features: [...found.values()].map((tally) => tally.row()),
  };
}

function sampled({ requestId, row }: InferenceRow, share: number): boolean {
  return Number.parseInt(hash64(`${requestId}/${row}`).slice(0, 8), 16) < share * 2 ** 32;
}

class Tally {
  readonly #row: ConsistencyRow;
  #errors = 0;
  #pairs = 0;

  constructor(feature: string, hourMs: number) {
    this.#row = { feature, hourMs, matches: 0, mismatches: 0, nullOnline: 0, nullOffline: 0, racing: 0, smape: null };
  }

  add(online: Scalar, offline: Scalar, racing: boolean): void {
    if (racing) this.#row.racing++;
    else if (online === offline) this.#row.matches++;
    else if (online === null) this.#row.nullOnline++;
    else if (offline === null) this.#row.nullOffline++;
    else this.#row.mismatches++;
    if (racing || typeof online !== "number" || typeof offline !== "number") return;
    const size = Math.abs(online) + Math.abs(offline);
    this.#errors += size === 0 ? 0 : (2 * Math.abs(online - offline)) / size;
    this.#pairs++;
  }

  row(): ConsistencyRow {
    return { ...this.#row, smape: this.#pairs === 0 ? null : this.#errors / this.#pairs };
  }
}

async function makeSpine(
  session: DuckSession,
  entities: readonly Entity[],
  rows: readonly InferenceRow[],
): Promise<void> {
  const columns = entities.map(({ name }) => `, ${keyColumn(name)} VARCHAR`);
  await session.run(`CREATE OR REPLACE TABLE spine ("row id" BIGINT, "as of" BIGINT${columns.join("")})`);
  await session.append("spine", [
    rows.map((_, i) => BigInt(i)),
    rows.map(({ asOfMs }) => BigInt(asOfMs)),
    ...entities.map(({ joinKey }) => rows.map(({ keys }) => keys[joinKey] ?? null)),
  ]);
}

async function mountStreams({ plan, service, mount }: ConsistencyOptions, spine: { fromMs: number; toMs: number }) {
  const ranges = new Map<Stream, { fromMs: number; toMs: number }>();
  for (const [group, members] of groupsOf(plan, service.features)) {
    const stream = plan.streams.find(({ name }) => name === group.stream)!;
    const own = seenRange(group, members, spine);
    const known = ranges.get(stream) ?? own;
    const toMs = Math.max(known.toMs, own.toMs) + FUTURE_LIMIT_MS + RACE_MS;
    ranges.set(stream, { fromMs: Math.min(known.fromMs, own.fromMs), toMs });
  }
  const names = new Map<string, string>();
  for (const [stream, range] of ranges) {
    const name = `archive_${names.size}`;
    await mount(stream, range, name);
    names.set(stream.name, name);
  }
  return names;
}

/** @param seen query of ids and visible times */
async function racingRows(session: DuckSession, entity: string, seen: string): Promise<Set<number>> {
  const rows = await session.rows(`
SELECT DISTINCT s."row id" AS row FROM spine AS s JOIN (${seen}) AS e ON e.id = s.${keyColumn(entity)}
WHERE e.visible_ms >= s."as of" - ${RACE_MS} AND e.visible_ms <= s."as of" + ${RACE_MS}`);
  return new Set(rows.map(({ row }) => Number(row)));
}

/** Not `Math.min(...)`: a million arguments are too many. */
const min = (values: readonly number[]): number => values.reduce((a, b) => Math.min(a, b));
const max = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b));
