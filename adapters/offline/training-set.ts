/**
 * A training set: for each row of a spine what a score of that request at that instant would have seen, as Parquet with a
 * manifest. Stored features by the point-in-time join, on-demand ones by the functions that score, request fields from the spine.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import type { Group, Plan, Stream } from "../../core/plan.ts";
import { createScorer } from "../../core/scoring/scoring.ts";
import type { InferenceRow } from "../inference-log/inference-log-format.ts";
import type { DuckSession } from "./duckdb.ts";
import { entityEventsSql, olderThanEntitySql } from "./entity-events.ts";
import { type FoundKeys, foundKeys, groupsOfService, namedIdsSql } from "./found-keys.ts";
import { type GivenSpine, givenSpine } from "./given-spine.ts";
import { spineFromLog } from "./logged-spine.ts";
import { declaredOutcomes, spineFromOutcomes } from "./outcomes.ts";
import { groupsOf, joinPointInTime, seenRange } from "./point-in-time.ts";
import { FOREVER, labelJoin, requireRange, type SpineTable, spineFromLabels } from "./spine.ts";
import type { AsOfRule, TrainingManifest, TrainingSource } from "./training-manifest.ts";
import { type MadePart, makePart, type PartOptions, ROWS_PER_PART, spinePart, windowedOf } from "./training-part.ts";

/** Brings a stream's rows of a range of event time to DuckDB, under a name. */
export type MountStream = (
  stream: Stream,
  range: { readonly fromMs: number; readonly toMs: number },
  name: string,
) => Promise<Omit<TrainingSource, "stream">>;

export type SpineSource =
  | { readonly kind: "labels"; readonly stream: string; readonly asOf: AsOfRule }
  /** What was scored, with the outcomes of `stream`. */
  | { readonly kind: "log"; readonly stream: string; readonly rows: (range: Range) => AsyncIterable<InferenceRow> }
  | GivenSpine;
/** Half-open. */
export interface Range {
  readonly fromMs: number;
  readonly toMs: number;
}

/** What a set is of, however it is made. */
export interface SetOptions extends PartOptions {
  readonly tenant: string;
  readonly spine: SpineSource;
  /** Event times of the labelled events, or instants of a given spine; half-open. Null: all of the spine. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
  readonly labelDelayMs: number | null;
}

export interface TrainingSetOptions extends SetOptions {
  readonly mount: MountStream;
  /** Folder to write; must not be there, or be empty. */
  readonly out: string;
  readonly onProgress?: (step: "spine" | "features" | "write", share: number) => void;
}

/**
 * @returns the manifest, as written. Nothing is left in `out` when it fails.
 * @throws FreshetError `range_empty`, `out_not_empty`, those of spine.ts, given-spine.ts and of reading the archive
 */
export async function buildTrainingSet(session: DuckSession, options: TrainingSetOptions): Promise<TrainingManifest> {
  const { plan, service, out, onProgress } = options;
  checkSet(options);
  if (existsSync(out) && readdirSync(out).length > 0) {
    throw new FreshetError("out_not_empty", `${out} is there and not empty`, {
      field: "out",
      repair: "choose another folder",
    });
  }
  /** By stream: what is mounted for features covers what the labels' events needed. */
  const sources = new Map<string, TrainingSource>();
  const mounted = new Map<string, string>();
  let mounts = 0;
  const mount = async (stream: Stream, range: { fromMs: number; toMs: number }): Promise<string> => {
    const name = `archive_${mounts++}`;
    sources.set(stream.name, { stream: stream.name, ...(await options.mount(stream, range, name)) });
    return name;
  };

  onProgress?.("spine", 0);
  const spine = await makeSpine(session, options, mount);
  onProgress?.("spine", 1);
  for (const [stream, range] of rangesOf(plan, service.features, spine)) {
    mounted.set(stream.name, await mount(stream, range));
  }
  const older = new Map<Group, boolean>();
  for (const group of groupsOf(plan, service.features).keys()) {
    const archive = mounted.get(group.stream)!;
    const [{ rows }] = await session.rows(olderThanEntitySql(group.entity, { archive }));
    older.set(group, Number(rows) > 0);
  }

  const windowed = windowedOf(plan, service);
  const partial = `${out}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  try {
    let made: MadePart | null = null;
    const parts = Math.ceil(spine.rows / ROWS_PER_PART);
    for (let part = 0; part < parts; part++) {
      const rows = await spinePart(session, part);
      const joined = await joinPointInTime(session, {
        plan,
        features: windowed,
        spine: rows,
        events: (group) =>
          entityEventsSql(plan, group.entity, { archive: mounted.get(group.stream)!, older: older.get(group) }),
        onProgress: (share) => onProgress?.("features", (part + share) / parts),
      });
      const dtypes: MadePart["dtypes"] | null = made?.dtypes ?? null;
      made = await makePart(session, options, { spine, rows, joined, file: join(partial, partName(part)), dtypes });
      onProgress?.("write", part / parts);
    }
    const named = groupsOfService(plan, service, new Set(mounted.keys())).map(
      (group) => [group, namedIdsSql(plan, group, mounted.get(group.stream)!)] as const,
    );
    const entities = await foundKeys(session, plan, service, new Map(named));
    const manifest = manifestOf(options, spine, [...sources.values()], entities, made!);
    writeFileSync(join(partial, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    rmSync(out, { recursive: true, force: true });
    renameSync(partial, out);
    onProgress?.("write", 1);
    return manifest;
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw error;
  }
}

/** What can be told before anything is fetched. @throws FreshetError `range_empty`, and those of the service's definition */
export function checkSet({ service, definition, fromMs, toMs }: SetOptions): void {
  requireRange(fromMs, toMs);
  createScorer(service, definition);
}

/** Makes the table `spine`. @param mount brings a stream's range to DuckDB, and answers the relation */
export async function makeSpine(
  session: DuckSession,
  { plan, service, definition, spine, fromMs, toMs, labelDelayMs }: SetOptions,
  mount: (stream: Stream, range: { fromMs: number; toMs: number }) => Promise<string>,
): Promise<SpineTable> {
  const range = { fromMs: fromMs ?? 0, toMs: toMs ?? FOREVER };
  if (spine.kind === "log") {
    const whole = (stream: Stream) => mount(stream, { fromMs: 0, toMs: FOREVER });
    const logged = { labels: spine.stream, rows: spine.rows(range), mount: whole };
    return spineFromLog(session, { plan, service, definition, ...logged });
  }
  if (spine.kind !== "labels") return givenSpine(session, { plan, service, source: spine, fromMs, toMs });
  const outcomes = declaredOutcomes(plan, definition, spine.stream);
  if (outcomes !== null) {
    // What happens within the delay of the range's last event tells its outcome.
    const events = await mount(outcomes.stream, { ...range, toMs: Math.min(FOREVER, range.toMs + outcomes.delayMs) });
    return spineFromOutcomes(session, { plan, service, outcomes, events, ...range, asOf: spine.asOf });
  }
  const join = labelJoin(plan, service, spine.stream);
  // A label comes after its event; one that claims to have come before is to be told.
  const labels = await mount(join.labels, { fromMs: 0, toMs: FOREVER });
  // What labels of the range's beginning judge happened before it: only so is an unknown event told from an older one.
  const events = await mount(join.events, { ...range, fromMs: Math.max(0, range.fromMs - 2 * (labelDelayMs ?? 0)) });
  return spineFromLabels(session, { plan, service, join, labels, events, ...range, asOf: spine.asOf });
}

/** For each stream behind the features the event times that any row can see. */
export function rangesOf(plan: Plan, features: readonly string[], spine: Pick<SpineTable, "fromMs" | "toMs">) {
  const ranges = new Map<Stream, Range>();
  for (const [group, members] of groupsOf(plan, features)) {
    const stream = plan.streams.find(({ name }) => name === group.stream)!;
    const own = seenRange(group, members, spine);
    const known = ranges.get(stream) ?? own;
    ranges.set(stream, { fromMs: Math.min(known.fromMs, own.fromMs), toMs: Math.max(known.toMs, own.toMs) });
  }
  return ranges;
}

const REQUEST_DTYPES = { double: "double", long: "int64", string: "string", boolean: "boolean" } as const;

export function manifestOf(
  { plan, service, tenant, spine: source, fromMs, toMs, labelDelayMs }: SetOptions,
  spine: SpineTable,
  sources: readonly TrainingSource[],
  entities: readonly FoundKeys[],
  { names, dtypes }: MadePart,
): TrainingManifest {
  return {
    version: 1,
    service: service.name,
    plan_hash: plan.hash,
    tenant,
    label_delay_ms: labelDelayMs,
    as_of_rule: source.kind === "labels" ? source.asOf : source.kind === "log" ? "log" : "spine",
    from_ms: fromMs,
    to_ms: toMs,
    row_count: spine.rows,
    positives: spine.positives,
    own_event_visible_rows: spine.ownEventVisible,
    left_out: spine.leftOut,
    sources,
    entities,
    features: [
      ...names.map((name, i) => ({ name, dtype: dtypes[i] })),
      ...Object.entries(service.request).map(([name, type]) => ({
        name: `request:${name}`,
        dtype: REQUEST_DTYPES[type],
      })),
    ],
  };
}

/** Name of a part's file. */
export const partName = (part: number): string => `part-${String(part).padStart(5, "0")}.parquet`;
