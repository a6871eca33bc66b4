/**
 * What keeps the online store's control hashes right: creates them once, gives slots their births, moves the seal. Runs
 * every minute and after each deployment; every step may be repeated.
 */
import type { ControlTable, RepeatRecord } from "../../adapters/control-table/control-table.ts";
import { birthsOf, type ControlHashes, type GroupControl, runsOf } from "../../adapters/valkey/control.ts";
import { type Birth, BUCKETS } from "../../adapters/valkey/layout.ts";
import { committedArrival, type ShardInfo, type Watermark } from "../../adapters/valkey/watermark.ts";
import { canonicalJson, type Lock } from "../../core/compile/compile.ts";
import { followLock, type SlotName } from "../../core/compile/lock-history.ts";
import { InfrastructureError } from "../../core/errors.ts";
import { isObject } from "../../core/operators/accumulators.ts";
import type { Group, Plan, Stream } from "../../core/plan.ts";
import { floorTo } from "../../core/tiles/window.ts";
import { isUnready, readinessOf, type ViewReadiness } from "./build/build-readiness.ts";

/** Beyond the function's timeout: clocks differ, and a mapping may hold a batch for a moment before it invokes. */
export const SEAL_MARGIN_MS = 60_000;

export interface ControlPorts {
  readonly plan: Plan;
  /** The ids that the plan was compiled under. */
  readonly lock: Lock;
  readonly controls: ControlHashes;
  readonly watermark: Watermark;
  readonly table: ControlTable;
  /** How often something was imported into the stream's archive; 0 when all of it came through the broker. */
  readonly imports: (stream: string) => Promise<number>;
  /** Longest life of an aggregate invocation. */
  readonly timeoutMs: number;
  readonly loadFunction: () => Promise<void>;
}

export interface StreamShards {
  readonly createdAtMs: number;
  readonly shards: readonly ShardInfo[];
}

export interface ControlReport {
  readonly epoch: number;
  readonly state: "ok" | "lost" | "failover" | "restoring" | "new";
  /** Of the 1,024, those that are lost, or not open for everything. */
  readonly bucketsNotOk: number;
  /** Which primaries answered; see `accept`. */
  readonly runs: string;
  /** By stream, ms; only streams with a group. */
  readonly seals: Readonly<Record<string, number>>;
  /** Streams whose seal did not move, and why. */
  readonly held: Readonly<Record<string, string>>;
  /** Views that lack some of their history: a backfill builds it. */
  readonly unready: readonly ViewReadiness[];
}

const lag = (stream: Stream, timeoutMs: number): number => stream.allowedLatenessMs + timeoutMs + SEAL_MARGIN_MS;

export async function controlStep(
  ports: ControlPorts,
  streams: Readonly<Record<string, StreamShards>>,
  nowMs: number,
  options: { readonly cleanRestart?: boolean } = {},
): Promise<ControlReport> {
  const { plan, controls, table } = ports;
  let store = await table.getStore();
  const first = store === null;
  if (store === null) store = await table.beginStore(1);
  const { initial, newStreams } = await initialControls(ports, streams, nowMs);
  if (store.state === "creating") {
    await ports.loadFunction();
    await controls.create(store.epoch, initial);
    await table.finishStore(store.epoch);
  }
  // Only a store that the table knows as ready is opened: missing control hashes of such a store are a loss, never new.
  await controls.open(store.epoch);
  // The new run id is that of the same store, ended and started with all it had: no suffix can be missing.
  if (options.cleanRestart) await controls.setState(store.epoch, ["ok", "failover"], "ok");
  await controls.noticeFailover();
  const runs = runsOf(await controls.primaries());
  const summary = await controls.summary();
  const seals: Record<string, number> = {};
  const held: Record<string, string> = {};
  if (summary.present < BUCKETS || summary.epoch !== store.epoch) {
    const bucketsNotOk = summary.epoch === store.epoch ? BUCKETS - summary.ok : BUCKETS;
    return { epoch: store.epoch, state: "lost", bucketsNotOk, runs, seals, held, unready: [] };
  }
  const known = await table.getLock();
  const { lock, overclaimed } = followLock(known ?? ports.lock, ports.lock);
  if (!first) await ports.loadFunction();
  for (const group of plan.groups) {
    const reborn = overclaimed.filter(({ group: name }) => name === group.name);
    await keepBirths(ports, group, initial.get(group.name)!, newStreams.has(group.stream), reborn, nowMs);
  }
  // After the births, so that a run that is cut short begins the same slots anew.
  if (known === null || canonicalJson(known) !== canonicalJson(lock)) await table.putLock(lock, known);
  for (const stream of plan.streams) {
    const target =
      (await frozenBy(ports, stream, nowMs)) ?? (await sealTarget(ports, stream, streams[stream.name], nowMs));
    const moved = await moveSeals(ports, stream, streams[stream.name], summary.state === "ok" ? target : null);
    if (typeof target === "string") held[stream.name] = target;
    else if (moved.held !== null) held[stream.name] = moved.held;
    if (moved.sealMs !== null) seals[stream.name] = moved.sealMs;
  }
  const bucketsNotOk = BUCKETS - summary.ok;
  const unready = (await readinessOf(controls, plan)).filter(isUnready);
  return { epoch: store.epoch, state: summary.state ?? "lost", bucketsNotOk, runs, seals, held, unready };
}

/**
 * Begins the store anew under the next epoch, blocked for everything but replays. Only for a store that has lost control
 * hashes: what is left of it is another epoch's and goes.
 * @param fromMs by stream, the event time from which on a replay brings all: it is sealed up to there, and what is older is not
 *   ready until a build has put it. @default a replay brings all that ever was
 * @throws InfrastructureError `store_not_ready`, `store_not_lost`
 */
export async function beginRestore(
  ports: ControlPorts,
  nowMs: number,
  fromMs: Readonly<Record<string, number>> = {},
): Promise<number> {
  const { controls, table } = ports;
  const store = await table.getStore();
  if (store === null)
    throw new InfrastructureError("store_not_ready", "there was never a store to restore", {
      repair: "run `freshet up`",
    });
  const { present, epoch: found, state } = await controls.summary();
  if (present === BUCKETS && found === store.epoch && state !== "restoring") {
    throw new InfrastructureError(
      "store_not_lost",
      "the online store has all of its control hashes: nothing is dropped",
      {
        repair: "run `freshet recover`, which does what the store's state needs",
      },
    );
  }
  const epoch = store.epoch + 1;
  await ports.loadFunction();
  await controls.drop();
  const { initial } = await initialControls(ports, {}, nowMs);
  for (const group of ports.plan.groups) {
    const { baseMs } = group;
    const begins = Math.ceil((fromMs[group.stream] ?? 0) / baseMs);
    // No replay brings what never passed the broker: features that reach back are not ready until a build has put it.
    const imported = (await ports.imports(group.stream)) > 0;
    if (begins === 0 && !imported) continue;
    const births = birthsOf(group, imported ? Math.max(begins, Math.ceil(nowMs / baseMs)) : begins);
    initial.set(group.name, { sealMs: Math.max(begins * baseMs, initial.get(group.name)!.sealMs), births });
  }
  await controls.create(epoch, initial, { pushedMissing: true });
  await controls.setState(epoch, ["new"], "restoring");
  await table.abandonRounds({ beforeEpoch: epoch });
  // Nothing is stored any more that an id could mean otherwise.
  await table.putLock(ports.lock, await table.getLock());
  await table.nextEpoch(store.epoch);
  return epoch;
}

/**
 * Opens the store for applies and takes the primaries that answer for whole: what they lacked has been replayed. It is they
 * that are remembered, as they were when they were compared: one that comes to answer between two of the steps is another.
 * Registrations are not replayed, and those that came back from the dead would hold the seal for ever: they begin anew.
 * @param runs as reported before the replay. Does nothing when others answer now: they may lack what the replay brought.
 * @param repairsSinceMs repairs that the store lacks are those that became visible from then on. @default the newest ones
 */
export async function accept(
  ports: ControlPorts,
  runs: string | undefined,
  nowMs: number,
  repairsSinceMs: number | null = null,
): Promise<void> {
  const store = await ports.table.getStore();
  const primaries = await ports.controls.primaries();
  if (store?.state !== "ready" || (runs !== undefined && runs !== runsOf(primaries))) return;
  // Before it is open: whoever has asked for it may die, and no replay brings them.
  await noteRepeat(ports.table, { sinceMs: repairsSinceMs, beforeMs: nowMs, done: false });
  for (const { name } of ports.plan.streams) await ports.watermark.restart(name, nowMs);
  await ports.controls.setState(store.epoch, ["restoring", "failover", "ok"], "ok", primaries);
}

/** Beside what is still to be repeated since the store was opened before. */
async function noteRepeat(table: ControlTable, asked: RepeatRecord): Promise<void> {
  for (;;) {
    const standing = await table.getRepeat();
    const sinces = [asked.sinceMs, standing?.sinceMs ?? null].filter((ms) => ms !== null);
    const record = {
      sinceMs: sinces.length === 0 ? null : Math.min(...sinces),
      beforeMs: Math.min(asked.beforeMs, standing?.beforeMs ?? asked.beforeMs),
      done: false,
    };
    if (await table.putRepeat(record, standing)) return;
  }
}

/** Seal and births of each group as they were when its stream was first seen, and the streams that are first seen now. */
async function initialControls(
  { plan, table, timeoutMs }: ControlPorts,
  streams: Readonly<Record<string, StreamShards>>,
  nowMs: number,
): Promise<{ initial: Map<string, GroupControl>; newStreams: ReadonlySet<string> }> {
  const initial = new Map<string, GroupControl>();
  const newStreams = new Set<string>();
  for (const stream of plan.streams) {
    let record = await table.getStream(stream.name);
    if (record === null) {
      newStreams.add(stream.name);
      const createdAtMs = Math.min(streams[stream.name]?.createdAtMs ?? nowMs, nowMs);
      const seal0 = Math.floor((createdAtMs - lag(stream, timeoutMs)) / stream.baseMs);
      record = await table.putStream(stream.name, { createdAtMs, seal0 });
    }
    for (const group of plan.groups.filter(({ stream: name }) => name === stream.name)) {
      initial.set(group.name, { sealMs: record.seal0 * stream.baseMs, births: birthsOf(group, 0) });
    }
  }
  return { initial, newStreams };
}

/**
 * Writes births of slots that have none and drops those that the plan has no more. This code is deployed after the aggregate
 * function, so when it first sees a slot no new invocation of the older plan starts; one that runs ends within its timeout.
 * @param reborn slots that the lock claims to have been kept for more than they were
 * @param newStream true when no event of the stream can have been acknowledged yet: a group without control counts all of it
 */
async function keepBirths(
  ports: ControlPorts,
  group: Group,
  { sealMs }: GroupControl,
  newStream: boolean,
  reborn: readonly SlotName[],
  nowMs: number,
): Promise<void> {
  const { controls, watermark, timeoutMs } = ports;
  const buckets = await controls.group(group);
  const fromStart = newStream && buckets.every((control) => control === null);
  const bornAt = fromStart ? 0 : birthAfter(group, nowMs, timeoutMs);
  const known = buckets.map((control) => new Map(control?.births.map((birth) => [birthKey(birth), birth.baseIndex])));
  const birthOf = group.slots.map(({ id, kind }) => {
    const slot = { object: isObject(kind), slot: id };
    // Buckets without a birth were left by a run that was cut short, and have not been filled: a slot is as old as its youngest
    // bucket. Where all have one, each keeps its own: a build completes them one after the other.
    const begun = !reborn.some((other) => other.object === slot.object && other.id === id);
    const everywhere = begun && known.every((bucket) => bucket.has(birthKey(slot)));
    return (bucket: number): Birth => ({
      ...slot,
      baseIndex: everywhere ? known[bucket].get(birthKey(slot))! : bornAt,
    });
  });
  const changes = buckets.flatMap((control, bucket) => {
    const births = birthOf.map((of) => of(bucket));
    const unchanged = control !== null && sameBirths(control.births, births);
    return unchanged ? [] : [{ bucket, read: control?.births ?? null, births }];
  });
  // A group that comes later begins where its stream is sealed: nothing holds the seal for what is older.
  const isLater = buckets.includes(null);
  const standingMs = isLater ? Math.max(await watermark.sealed(group.stream), await siblingsSealedMs(ports, group)) : 0;
  await controls.putBirths(group, changes, Math.max(sealMs, standingMs));
}

/** Of a store that was restored the groups alone know how far their stream was sealed. @returns epoch milliseconds; 0 where no other group is there */
async function siblingsSealedMs({ plan, controls }: ControlPorts, group: Group): Promise<number> {
  const siblings = plan.groups.filter(({ name, stream }) => stream === group.stream && name !== group.name);
  const all = await Promise.all(siblings.map((sibling) => controls.group(sibling)));
  const whole = all.filter((buckets) => !buckets.includes(null)).flat();
  return whole.length === 0 ? 0 : Math.min(...whole.map((control) => control!.sealMs));
}

const birthKey = ({ object, slot }: Pick<Birth, "object" | "slot">): string => `${object ? "object" : "cell"} ${slot}`;

/** First base tile after the last invocation of an older plan. */
const birthAfter = (group: Group, nowMs: number, timeoutMs: number): number =>
  Math.ceil((nowMs + SEAL_MARGIN_MS + timeoutMs) / group.baseMs);

const sameBirths = (a: readonly Birth[], b: readonly Birth[]): boolean =>
  a.length === b.length &&
  a.every((x) => b.some((y) => y.slot === x.slot && y.object === x.object && y.baseIndex === x.baseIndex));

/** Moves the seals of a stream's groups, one stream's being the same for all. */
async function moveSeals(
  { plan, controls, watermark }: ControlPorts,
  stream: Stream,
  listed: StreamShards | undefined,
  target: number | string | null,
): Promise<{ sealMs: number | null; held: string | null }> {
  const { name } = stream;
  const groups = plan.groups.filter((group) => group.stream === name);
  /** The least over all buckets: a run that was cut short has moved some of them. */
  const standing = async (): Promise<number> => {
    const all = await Promise.all(groups.map((group) => controls.group(group)));
    return Math.min(...all.flat().map((control) => control?.sealMs ?? 0));
  };
  if (groups.length === 0) return { sealMs: null, held: null };
  const beforeMs = await standing();
  if (typeof target !== "number" || target <= beforeMs) {
    await watermark.settle(name, beforeMs, null);
    return { sealMs: beforeMs, held: null };
  }
  const announced = await watermark.announce(stream, target, listed?.shards ?? []);
  if (announced === null) return { sealMs: beforeMs, held: "another run of control is moving it" };
  const { sealMs: announcedMs, untilUs } = announced;
  if (announcedMs > beforeMs) await controls.moveSeal(stream, announcedMs, untilUs);
  const sealMs = await standing();
  await watermark.settle(name, sealMs, announcedMs);
  const reached = announcedMs === target || announcedMs > beforeMs;
  return { sealMs, held: reached ? null : "a batch that is not archived yet holds events above it" };
}

/** Where the seal may move to, or why it stands. */
async function sealTarget(
  { watermark, timeoutMs }: ControlPorts,
  stream: Stream,
  listed: StreamShards | undefined,
  nowMs: number,
): Promise<number | string> {
  const state = await watermark.read(stream.name);
  if (state.originMs === null) {
    await watermark.begin(stream.name, nowMs);
    return "registrations are new: every shard must acknowledge a later arrival first";
  }
  if (listed === undefined) return "no list of shards was given";
  const committedMs = committedArrival(state, listed.shards, nowMs);
  if (committedMs === null) return "a shard has not acknowledged anything since the registrations began";
  await watermark.forget(stream.name, state, listed.shards, nowMs);
  return floorTo(committedMs - lag(stream, timeoutMs), stream.baseMs);
}

/** Why the seal stands although it could move: a build or a repair of the stream works below it, for a while. */
async function frozenBy({ table }: ControlPorts, stream: Stream, nowMs: number): Promise<string | null> {
  const lease = await table.getLease(stream.name);
  if (lease === null || lease.expiresMs <= nowMs) return null;
  return `${lease.holder} holds it until ${new Date(lease.expiresMs).toISOString()}`;
}
