/**
 * Single entities from the archive: every tile below the seal is put anew, as a bulk build does for all. It mends what is wrong in the store for whatever
 * reason; open tiles and their identities stay, and doing it again changes nothing.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { BuildProgress } from "../../../adapters/control-table/build-progress.ts";
import { mountArchive } from "../../../adapters/offline/archive-view.ts";
import { type BuiltEntity, buildEntities } from "../../../adapters/offline/build.ts";
import { DuckSession, sqlName, sqlText } from "../../../adapters/offline/duckdb.ts";
import { entityEventsSql } from "../../../adapters/offline/entity-events.ts";
import { leanArchiveSql, neededFromMs } from "../../../adapters/offline/tile-states.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { bucketOf, entityKey } from "../../../adapters/valkey/layout.ts";
import { readMendTokens } from "../../../adapters/valkey/mend.ts";
import { encodePut, type PutFate } from "../../../adapters/valkey/put.ts";
import { FreshetError } from "../../../core/errors.ts";
import { isObject } from "../../../core/operators/accumulators.ts";
import type { Group, Stream } from "../../../core/plan.ts";
import { currentEpoch } from "../current-store.ts";
import { type BuildPorts, storeClockUs } from "./bulk-build.ts";

export type EntityBuildPorts = Pick<
  BuildPorts,
  "plan" | "lock" | "connection" | "controls" | "table" | "mirror" | "duck" | "archiveFromMs"
>;
type NotedBuildPorts = EntityBuildPorts & { readonly progress: Pick<BuildProgress, "noteRebuild"> };

export interface EntityOf {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
}

/** Of one stream: `rebuilt`, with the events below the seal that windows still need or that a lifetime counts; or why it has to wait. */
export interface EntityBuildReport {
  readonly stream: string;
  readonly state: "rebuilt" | "waiting";
  readonly reason: string | null;
  readonly events: number;
}

const LEASE_MS = 60_000;
const RENEW_MS = 20_000;
const RETRY_MS = 250;
/** Seals move each minute, repairs are settled within seconds. */
const MAX_TRIES = 40;

/**
 * @param streams the only ones wanted. @default all that the entity has features of
 * @throws FreshetError `entity_unknown`; what reading the archive and the store throw
 */
export async function rebuildEntity(
  ports: NotedBuildPorts,
  of: EntityOf,
  streams?: readonly string[],
): Promise<EntityBuildReport[]> {
  const groups = ports.plan.groups.filter(
    ({ entity, stream }) => entity === of.entity && streams?.includes(stream) !== false,
  );
  if (groups.length === 0) {
    const known = [...new Set(ports.plan.groups.map(({ entity }) => entity))];
    throw new FreshetError("entity_unknown", `no entity with features of events is named ${of.entity}`, {
      field: "entity",
      repair: `use ${known.join(", ")}`,
    });
  }
  const reports: EntityBuildReport[] = [];
  for (const group of groups) {
    reports.push(await rebuildIn(ports, group, of.tenant, [of.id]));
    // Restoring a snapshot of before undoes it.
    await ports.progress.noteRebuild(group.stream, Date.now());
  }
  return reports;
}

/** The same of some entities of a group, with one query of the archive. */
export const rebuildIn = (
  ports: EntityBuildPorts,
  group: Group,
  tenant: string,
  ids: readonly string[],
): Promise<EntityBuildReport> => underLease(ports, group, () => rebuildGroup(ports, group, tenant, ids));

async function underLease(
  { table }: EntityBuildPorts,
  { stream }: Group,
  work: () => Promise<EntityBuildReport>,
): Promise<EntityBuildReport> {
  const holder = `rebuild ${randomUUID().slice(0, 8)}`;
  const renew = () => table.takeLease(stream, { holder, expiresMs: Date.now() + LEASE_MS }, Date.now());
  if (!(await renew())) {
    const lease = await table.getLease(stream);
    return waiting(stream, `${lease?.holder ?? "somebody else"} works below the seal of ${stream}`);
  }
  const timer = setInterval(() => void renew().catch(() => {}), RENEW_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    await table.releaseLease(stream, holder);
  }
}

const waiting = (stream: string, reason: string): EntityBuildReport => ({
  stream,
  state: "waiting",
  reason,
  events: 0,
});

const REASONS: Readonly<Record<Exclude<PutFate, "put">, string>> = {
  moved: "the seal moves on",
  older: "somebody else puts or repairs the entity",
  held: "the store folds nothing now, or a repair is not finished",
  erased: "the entity is being erased",
};

async function rebuildGroup(
  ports: EntityBuildPorts,
  group: Group,
  tenant: string,
  ids: readonly string[],
): Promise<EntityBuildReport> {
  const { plan, lock, connection, table } = ports;
  const stream = plan.streams.find(({ name }) => name === group.stream)!;
  let left = ids.map((id) => {
    const bucket = bucketOf(tenant, group.entity, id);
    return { id, bucket, key: entityKey(bucket, tenant, group.entity, group.stream, id) };
  });
  let events = 0;
  let reason = "";
  for (let tries = 0; tries < MAX_TRIES && left.length > 0; tries++) {
    if (tries > 0) await sleep(RETRY_MS);
    const epoch = await currentEpoch(table, lock);
    const all = await ports.controls.group(group);
    const [first] = left.map(({ bucket }) => all[bucket]);
    if (epoch === null || !first) return waiting(group.stream, "the store does not know the stream yet");
    const { sealMs } = first;
    const isBorn = ({ id, kind }: Group["slots"][number]) =>
      left.every(({ bucket }) =>
        all[bucket]?.births.some(
          (b) => b.slot === id && b.object === isObject(kind) && b.baseIndex * group.baseMs <= sealMs,
        ),
      );
    if (!group.slots.every(isBorn)) return waiting(group.stream, "features that were added later are not born yet");
    const keys = left.map(({ key }) => key);
    const tokens = await readMendTokens(connection, keys);
    // Before the archive is listed.
    const listedUs = await storeClockUs(connection);
    const fromMs = await ports.archiveFromMs(group.stream, Date.now());
    const built = await buildSome(ports, group, stream, { tenant, ids: left.map(({ id }) => id) }, { sealMs, fromMs });
    const isThere = await connection.demand(keys.map((key) => ({ key, name: "EXISTS", args: [key] })));
    const puts = left.flatMap(({ id, bucket, key }, i) => {
      const own = built.entities.get(id);
      // What neither the store nor the archive knows is right as it is.
      if (own === undefined && isThere[i] === 0) return [];
      const header = {
        sealIndex: sealMs / group.baseMs,
        generation: Math.max(listedUs, tokens[i]!.generation + 1),
        listedUs,
        whole: fromMs <= 0,
        fromIndex: Math.ceil(fromMs / group.baseMs),
        newestMs: own?.newestMs ?? null,
      };
      return [{ id, bucket, puts: [{ key, blob: encodePut(group, header, own?.fields ?? []) }] }];
    });
    const fates = (await new StoreApplier(connection, plan, epoch).put(puts)).map(([fate]) => fate!);
    const undone = new Set(puts.flatMap(({ id }, i) => (fates[i] === "put" ? [] : [id])));
    for (const fate of fates) if (fate !== "put") reason = REASONS[fate];
    if (tries === 0) events = built.events;
    left = left.filter(({ id }) => undone.has(id));
  }
  if (left.length > 0) return waiting(group.stream, reason);
  return { stream: group.stream, state: "rebuilt", reason: null, events };
}

async function buildSome(
  { plan, mirror, duck }: EntityBuildPorts,
  group: Group,
  stream: Stream,
  { tenant, ids }: { readonly tenant: string; readonly ids: readonly string[] },
  { sealMs, fromMs }: { readonly sealMs: number; readonly fromMs: number },
): Promise<{ entities: ReadonlyMap<string, BuiltEntity>; events: number }> {
  const { joinKey } = plan.entities.find(({ name }) => name === group.entity)!;
  const session = await DuckSession.open(duck);
  try {
    const range = { tenant, stream, fromMs: neededFromMs(group, sealMs, fromMs), toMs: sealMs };
    await mountArchive(session, mirror, range, "archive");
    const wanted = ids.map(sqlText);
    // A fate's id is what the payload's join key says.
    await session.run(
      `CREATE TEMP TABLE own AS SELECT * FROM (${leanArchiveSql(group, joinKey, "archive")})
       WHERE CAST(fields.${sqlName(joinKey)} AS VARCHAR) IN (${wanted})`,
    );
    const events = `SELECT * FROM (${entityEventsSql(plan, group.entity, { archive: "own" })}) WHERE id IN (${wanted})`;
    const entities = new Map<string, BuiltEntity>();
    let count = 0;
    const told = (found: number) => {
      count = found;
    };
    const options = { group, sources: [{ tenant, events }], sealMs, fromMs };
    for await (const built of buildEntities(session, options, told)) entities.set(built.id, built);
    return { entities, events: count };
  } finally {
    session.close();
  }
}
