/**
 * Snapshots of entities that are declared `fallback`, in rounds: each walks through the whole store and writes what has
 * changed since the round before it began. A round may take several invocations. Every step may be repeated, and two runs
 * at once only do the same twice: an older state of an entity never replaces a newer one.
 */
import { forEachLimited } from "../../../adapters/aws/durable-call.ts";
import { hash64 } from "../../../adapters/hash.ts";
import { encodeSnapshot, layoutOf, MAX_DATA_BYTES } from "../../../adapters/snapshot/item-format.ts";
import { pushedMark, type RoundRecord, type SnapshotTable } from "../../../adapters/snapshot/snapshot-table.ts";
import type { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import type { ControlHashes, GroupControl } from "../../../adapters/valkey/control.ts";
import {
  ownersOf,
  type StoredHash,
  storeMoment,
  type WalkPosition,
  walkHashes,
} from "../../../adapters/valkey/hash-walk.ts";
import { type Birth, BUCKETS, decodeMeta, encodeGroupControl, META_FIELD } from "../../../adapters/valkey/layout.ts";
import { canonicalJson } from "../../../core/json.ts";
import type { Group, Plan } from "../../../core/plan.ts";

export interface RoundPorts {
  readonly plan: Plan;
  readonly connection: ValkeyConnection;
  readonly controls: Pick<ControlHashes, "summary" | "group" | "lacksPushed">;
  readonly table: SnapshotTable;
  /** Epoch milliseconds. */
  readonly clock: () => number;
}

export interface RoundReport {
  /** `held` while the store is not open; `taken over` when another run went on with the round. */
  readonly outcome: "complete" | "unfinished" | "held" | "taken over" | "nothing to keep";
  readonly scanned: number;
  readonly written: number;
  /** Entities that no item can hold: none stands in for them. */
  readonly tooLarge: number;
  /** When the newest complete round began, on the store's clock; null when there is none. */
  readonly coveredMs: number | null;
}

/** A primary that has taken over may have a clock that is behind. */
const CLOCK_MARGIN_US = 60_000_000;
const WRITES_AT_ONCE = 16;
/** A run that is killed repeats so much. */
const SAVE_EVERY_MS = 20_000;
/** Beyond the last moment at which anything of an item can be seen; DynamoDB itself takes up to two days more. */
const EXPIRY_MARGIN_MS = 86_400_000;

/** @param deadlineMs clock at which to stop; the next run goes on where this one was. @throws InfrastructureError */
export async function snapshotRound(ports: RoundPorts, deadlineMs: number): Promise<RoundReport> {
  const { plan, connection, controls, table, clock } = ports;
  const kept = new Set(plan.entities.flatMap(({ name, fallback }) => (fallback ? [name] : [])));
  const counts = { scanned: 0, written: 0, tooLarge: 0 };
  const report = (outcome: RoundReport["outcome"], of: RoundRecord | null): RoundReport => ({
    ...counts,
    outcome,
    coveredMs: of === null || of.coveredUs === null ? null : Math.floor(of.coveredUs / 1_000),
  });
  const before = await table.getRound();
  if (kept.size === 0) return report("nothing to keep", before);
  const { epoch, present, state } = await controls.summary();
  if (epoch === null || present < BUCKETS || (state !== "ok" && state !== "failover")) return report("held", before);
  // A round would tell of values that are still to come back that they were never there.
  if (await controls.lacksPushed()) return report("held", before);
  const groups = plan.groups.filter(({ entity }) => kept.has(entity));
  const begun = await table.putRound(await begin(ports, groups, [...kept], epoch, before));
  if (begun === null) return report("taken over", before);
  let record = begun;
  const since = (entity: string, stream: string | null): number | null => {
    if (!kept.has(entity)) return null;
    const group = groups.find((one) => one.entity === entity && one.stream === stream);
    const name = group === undefined ? pushedMark(entity) : group.name;
    const mark = record.nextMarks[name];
    return mark !== undefined && mark === record.marks[name] ? record.sinceUs : 0;
  };
  let savedMs = clock();
  const from: WalkPosition = record;
  let walkedBy = record.runs;
  for await (const { hashes, scanned, position } of walkHashes(connection, plan, since, from)) {
    counts.scanned += scanned;
    await forEachLimited(hashes, WRITES_AT_ONCE, async (hash) => {
      const data = encodeSnapshot({
        layout: hash.stream === null ? null : layoutOf(groupOf(groups, hash)),
        control: hash.control,
        items: hash.items,
      });
      const fits = data.length <= MAX_DATA_BYTES;
      if (!fits) counts.tooLarge++;
      const { tenant, entity, id, stream, rev, epoch: of, takenMs } = hash;
      const item = { tenant, entity, id, stream, rev, epoch: of, takenMs, expiresMs: expiryOf(groups, hash) };
      if (await table.put({ ...item, data: fits ? data : null })) counts.written++;
    });
    if (position === null) continue;
    walkedBy = position.runs;
    const isOver = clock() > deadlineMs;
    if (!isOver && clock() - savedMs < SAVE_EVERY_MS) continue;
    const saved = await table.putRound({ ...record, ...position });
    if (saved === null) return report("taken over", record);
    record = saved;
    savedMs = clock();
    if (isOver) return report("unfinished", record);
  }
  // A bucket that was closed meanwhile has given nothing: the round has not been through all.
  const after = await controls.summary();
  const wasOpen =
    after.epoch === epoch && after.present === BUCKETS && (after.state === "ok" || after.state === "failover");
  if (!wasOpen) return report("held", record);
  const runs = await ownersOf(connection);
  if (runs !== walkedBy) {
    const again = await table.putRound({ ...record, runs, walked: [], cursor: "0" });
    return again === null ? report("taken over", record) : report("unfinished", again);
  }
  const complete = await table.putRound({
    ...record,
    startedUs: null,
    coveredUs: record.startedUs,
    marks: record.nextMarks,
    controls: record.nextControls,
    ...{ walked: [], cursor: "0" },
  });
  return complete === null ? report("taken over", record) : report("complete", complete);
}

/** The record of the round to work on: the one under way, or a new one. */
async function begin(
  { connection, controls }: RoundPorts,
  groups: readonly Group[],
  kept: readonly string[],
  epoch: number,
  before: RoundRecord | null,
): Promise<RoundRecord> {
  if (before !== null && before.epoch === epoch && before.startedUs !== null) return before;
  // Before anything else is read: what is covered is at least as of then.
  const { clockUs: startedUs, runs } = await storeMoment(connection);
  const buckets = await Promise.all(groups.map((group) => controls.group(group)));
  const nextMarks = [
    ...groups.map((group, i) => [group.name, markOf(group, buckets[i])] as const),
    ...kept.map((entity) => [pushedMark(entity), "kept"] as const),
  ];
  const nextControls = groups.map((group, i) => [group.name, youngest(group, buckets[i]).toString("hex")] as const);
  const next = {
    epoch,
    startedUs,
    ...{ runs, walked: [], cursor: "0" },
    nextMarks: Object.fromEntries(nextMarks),
    nextControls: Object.fromEntries(nextControls),
  };
  if (before === null || before.epoch !== epoch) {
    // Nothing of an older epoch is taken for this one's; reads go without until a round is through.
    return { ...next, version: before?.version ?? 0, sinceUs: 0, coveredUs: null, marks: {}, controls: {} };
  }
  const { version, coveredUs, marks, controls: known } = before;
  // What was changed in the very microsecond may have been changed after it was looked at.
  const sinceUs = coveredUs === null ? 0 : coveredUs - (before.runs === runs ? 1 : CLOCK_MARGIN_US);
  return { ...next, version, coveredUs, marks, controls: known, sinceUs };
}

const groupOf = (groups: readonly Group[], { entity, stream }: StoredHash): Group =>
  groups.find((group) => group.entity === entity && group.stream === stream)!;

/** Changes with a group's layout and with any birth in any bucket, but not with the seal. */
const markOf = (group: Group, buckets: readonly (GroupControl | null)[]): string =>
  hash64(canonicalJson([layoutOf(group), buckets.map((control) => control?.births ?? null)] as never));

/** Each slot as young as it is in any bucket; unborn where a bucket lacks it. */
function youngest(group: Group, buckets: readonly (GroupControl | null)[]): Buffer {
  const births = (buckets[0]?.births ?? []).flatMap(({ object, slot }): Birth[] => {
    const of = buckets.map((control) => control?.births.find((one) => one.object === object && one.slot === slot));
    return of.some((birth) => birth === undefined)
      ? []
      : [{ object, slot, baseIndex: Math.max(...of.map((birth) => birth!.baseIndex)) }];
  });
  return encodeGroupControl(Math.floor((buckets[0]?.sealMs ?? 0) / group.baseMs), births);
}

/** When nothing of a hash can be seen any more; null for never. */
function expiryOf(groups: readonly Group[], hash: StoredHash): number | null {
  if (hash.stream === null) return hash.expiresMs === null ? null : hash.expiresMs + EXPIRY_MARGIN_MS;
  const { expireMs } = groupOf(groups, hash);
  if (expireMs === null) return null;
  const at = hash.items.findIndex((item, i) => i % 2 === 0 && META_FIELD.equals(item));
  const [newestMs = hash.takenMs] = decodeMeta(hash.items[at + 1]).newest;
  return Math.max(newestMs, hash.takenMs) + expireMs + EXPIRY_MARGIN_MS;
}
