/**
 * Materializes batch views (DESIGN §10): a query over what was visible by the end of a run, its values pushed into the online
 * store and archived with their visible times, and only then counted as done. A run that is cut off, or repeated, pushes the same
 * values again, which changes nothing.
 */
import type { S3Client } from "@aws-sdk/client-s3";
import type { BatchRunRecord } from "../../../adapters/control-table/batch-runs.ts";
import { mountArchive } from "../../../adapters/offline/archive-view.ts";
import { batchRows, runBatchQuery, runRange, streamRelationSql } from "../../../adapters/offline/batch-query.ts";
import { type DuckOptions, DuckSession } from "../../../adapters/offline/duckdb.ts";
import type { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { type ValuesRow, writeValues } from "../../../adapters/pushed/values-format.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { packValues } from "../../../adapters/valkey/packed.ts";
import { type PushRow, pushRows } from "../../../adapters/valkey/push.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../../../core/event.ts";
import type { BatchView, Plan, Scalar } from "../../../core/plan.ts";
import { keyOf } from "../../../core/pushed-feature.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { currentEpoch } from "../current-store.ts";
import { type RestorePorts, type RestoreReport, restorePushed } from "./restore-pushed.ts";

export interface MaterializePorts extends RestorePorts {
  readonly mirror: ArchiveMirror;
  readonly s3: Pick<S3Client, "send">;
  readonly duck: DuckOptions;
  /** Tenants that have anything in a stream's archive. */
  readonly tenants: (stream: string) => Promise<readonly string[]>;
}

export interface RunRequest {
  readonly view: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** This tenant's entities alone; the run does not count as complete then. @default all */
  readonly tenant?: string;
}
export interface RunReport {
  readonly view: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly rows: number;
  /** Rows that name no entity: left out. */
  readonly withoutKey: number;
  readonly tenants: readonly string[];
}
export interface ViewState {
  readonly view: string;
  readonly runs: number;
  readonly rows: number;
  /** How far the newest complete run's end lies behind; null before the first. */
  readonly lagMs: number | null;
  /** For how long a run has been due. */
  readonly lateMs: number;
  readonly error: unknown;
}

const ROWS_PER_OBJECT = 20_000;

export function viewOf({ batchViews }: Plan, name: string): BatchView {
  const view = batchViews.find((each) => each.name === name);
  if (view !== undefined) return view;
  throw new FreshetError("view_unknown", `the plan has no batch view ${name}`, {
    field: "view",
    repair:
      batchViews.length === 0
        ? "declare one with batchFeatureView"
        : `use ${batchViews.map((each) => each.name).join(", ")}`,
  });
}

/** Runs that cover a range, each to the next whole multiple of the schedule. @throws FreshetError `range_empty` */
export function stepsOf({ everyMs }: BatchView, fromMs: number, toMs: number): { fromMs: number; toMs: number }[] {
  if (fromMs >= toMs) {
    throw new FreshetError(
      "range_empty",
      `the range from ${new Date(fromMs).toISOString()} to ${new Date(toMs).toISOString()} is empty`,
      {
        field: "to",
        repair: "give --to later than --from",
      },
    );
  }
  const steps: { fromMs: number; toMs: number }[] = [];
  for (let at = fromMs; at < toMs; ) {
    const end = Math.min(toMs, floorTo(at, everyMs) + everyMs);
    steps.push({ fromMs: at, toMs: end });
    at = end;
  }
  return steps;
}

/**
 * One run. Repeating it gives the same values: it sees only what was visible before its end.
 * @throws FreshetError `view_unknown`, `run_ahead`, those of the query; InfrastructureError of store and archive
 */
export async function materialize(ports: MaterializePorts, request: RunRequest): Promise<RunReport> {
  const { plan, table, lock, runs } = ports;
  const view = viewOf(plan, request.view);
  const { fromMs, toMs } = request;
  if (toMs > Date.now()) {
    throw new FreshetError("run_ahead", `a run ends before now, given ${new Date(toMs).toISOString()}`, {
      field: "to",
      repair: "leave --to out to run up to the last whole period",
    });
  }
  const epoch = await currentEpoch(table, lock);
  if (epoch === null)
    throw new InfrastructureError("store_not_ready", "there is no online store yet", {
      repair: "wait for the control function",
    });
  const applier = new StoreApplier(ports.connection, plan, epoch);
  const tenants = request.tenant === undefined ? await tenantsOf(ports, view) : [request.tenant];
  let rows = 0;
  let withoutKey = 0;
  for (const tenant of tenants) {
    const done = await runTenant(ports, applier, view, tenant, fromMs, toMs);
    rows += done.rows;
    withoutKey += done.withoutKey;
  }
  if (request.tenant === undefined) {
    const record = await runs.get(view.name);
    // What lies between the last complete run and this one has not been done.
    if (record === null || fromMs <= record.toMs) {
      await runs.complete(view.name, { toMs, finishedMs: Date.now(), rows, epoch });
    }
  }
  return { view: view.name, fromMs, toMs, rows, withoutKey, tenants };
}

async function tenantsOf({ tenants }: MaterializePorts, { streams }: BatchView): Promise<string[]> {
  const found = new Set<string>();
  for (const stream of streams) for (const tenant of await tenants(stream)) found.add(tenant);
  return [...found].sort();
}

async function runTenant(
  ports: MaterializePorts,
  applier: StoreApplier,
  view: BatchView,
  tenant: string,
  fromMs: number,
  toMs: number,
) {
  const { plan, mirror } = ports;
  const range = runRange(view, fromMs, toMs);
  mirror.begin();
  const session = await DuckSession.open(ports.duck);
  try {
    for (const [i, name] of view.streams.entries()) {
      const stream = plan.streams.find((each) => each.name === name)!;
      await mountArchive(session, mirror, { tenant, stream, fromMs: range.sinceMs, toMs }, `archive_${i}`);
      await session.run(streamRelationSql(stream, `archive_${i}`, range));
    }
    const checked = await runBatchQuery(session, plan, view, range, Date.now() + FUTURE_LIMIT_MS);
    let open: ViewRow[] = [];
    for await (const rows of batchRows(session, view)) {
      for (const { id, eventTimeMs, values } of rows) {
        open.push({ id, eventTimeMs, values });
      }
      if (open.length < ROWS_PER_OBJECT) continue;
      await pushAndArchive(ports, applier, view, tenant, open);
      open = [];
    }
    if (open.length > 0) await pushAndArchive(ports, applier, view, tenant, open);
    return checked;
  } finally {
    session.close();
  }
}

interface ViewRow {
  readonly id: string;
  readonly eventTimeMs: number;
  /** In the order of the view's features. */
  readonly values: readonly Scalar[];
}

async function pushAndArchive(
  { s3, mirror }: MaterializePorts,
  applier: StoreApplier,
  view: BatchView,
  tenant: string,
  rows: readonly ViewRow[],
) {
  const { entity, name, reachMs } = view;
  const pushes = rows.map(({ id, eventTimeMs, values }): PushRow => {
    const named = view.features.map(({ id: place, dtype }, f) => ({ id: place, dtype, value: values[f] }));
    return { tenant, entity, id, view: name, eventTimeMs, packed: packValues(named, eventTimeMs), reachMs };
  });
  const visible = await pushRows(applier, pushes);
  const archived = rows.flatMap(({ id, eventTimeMs, values }, i): ValuesRow[] => {
    const visibleMs = visible[i];
    // Of an entity that has been erased since the query read the archive.
    if (visibleMs === 0) return [];
    // Its time was checked by this machine's clock: the store's is more than a minute behind.
    if (visibleMs === null)
      throw new InfrastructureError("store_clock", "the online store's clock is behind this machine's", {});
    const typed = values.map((value, f) => [`${keyOf(view.features[f])}:${view.features[f].dtype}`, value] as const);
    return [{ tenant, entity, id, view: name, eventTimeMs, visibleMs, values: Object.fromEntries(typed) }];
  });
  if (archived.length > 0) await writeValues({ s3, bucket: mirror.bucket }, archived);
}

/** What was visible by a run's end is in the archive by then: an invocation writes there last, within its timeout. */
const SETTLE_MS = 120_000;

/** The next run that is due; null when none is. */
export function dueRun(view: BatchView, record: Pick<BatchRunRecord, "toMs"> | null, nowMs: number) {
  const end = floorTo(nowMs - SETTLE_MS, view.everyMs);
  const fromMs = record?.toMs ?? end - view.everyMs;
  return fromMs >= end ? null : { fromMs, toMs: floorTo(fromMs, view.everyMs) + view.everyMs };
}

/** What one look for due work has done. */
export interface DueReport {
  /** Of what a lost store held; its failure, which keeps no view from running. */
  readonly restored: RestoreReport | { readonly error: unknown };
  readonly views: readonly ViewState[];
}

/** Runs all that is due, one period after another, until `deadlineMs`. A view that fails keeps none of the others from running. */
export async function materializeDue(ports: MaterializePorts, deadlineMs: number): Promise<DueReport> {
  // Views that are due have the other half of the time, however long the restore takes.
  const halfMs = Date.now() + Math.max(0, (deadlineMs - Date.now()) / 2);
  const restored = await restorePushed(ports, halfMs).catch((error: unknown) => ({ error }));
  const views: ViewState[] = [];
  for (const view of ports.plan.batchViews) {
    let runs = 0;
    let rows = 0;
    let error: unknown = null;
    try {
      for (;;) {
        const due = dueRun(view, await ports.runs.get(view.name), Date.now());
        if (due === null || Date.now() >= deadlineMs) break;
        rows += (await materialize(ports, { view: view.name, ...due })).rows;
        runs++;
      }
    } catch (thrown) {
      error = thrown;
    }
    const record = await ports.runs.get(view.name);
    const nowMs = Date.now();
    const lagMs = record === null ? null : nowMs - record.toMs;
    const lateMs = Math.max(0, (lagMs ?? 2 * view.everyMs) - view.everyMs - SETTLE_MS);
    views.push({ view: view.name, runs, rows, lagMs, lateMs, error });
  }
  return { restored, views };
}
