/**
 * After a failover the new primary may lack the newest repairs, which the archive holds as done: their entities are built anew. Nothing is repaired while
 * a failover stands, so the newest repair that there is was made before it, and what may be lost lies in the minutes before that.
 */
import { readArchive } from "../../../adapters/archive/archive.ts";
import type { ControlTable, RepeatRecord } from "../../../adapters/control-table/control-table.ts";
import { mountArchive } from "../../../adapters/offline/archive-view.ts";
import { type DuckOptions, DuckSession } from "../../../adapters/offline/duckdb.ts";
import type { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { neededFromMs } from "../../../adapters/offline/tile-states.ts";
import { tenantPartition } from "../../../adapters/s3/object-path.ts";
import { bucketOf, entityKey } from "../../../adapters/valkey/layout.ts";
import type { Group, Plan, Stream } from "../../../core/plan.ts";
import type { EntityBuildReport } from "../build/entity-build.ts";
import { REPAIR_SHARD } from "./repair.ts";
import type { SettledEntity } from "./settle-repairs.ts";

export interface RepeatPorts {
  readonly plan: Plan;
  readonly table: Pick<ControlTable, "getRepeat" | "putRepeat">;
  readonly tenants: (stream: string) => Promise<readonly string[]>;
  readonly mirror: ArchiveMirror;
  readonly duck: DuckOptions;
  /** A replica may lack that a repair was settled: puts of its entity would wait for it. */
  readonly settle: (entities: readonly SettledEntity[]) => Promise<void>;
  readonly rebuild: (group: Group, tenant: string, ids: readonly string[]) => Promise<EntityBuildReport>;
}

/** What a replica may lack at most. */
const SUFFIX_MS = 120_000;
/** Raw objects stay for a day after they are compacted. */
const RAW_MS = 20 * 3_600_000;
const DAY_MS = 86_400_000;
/** Built with one query. */
const TOGETHER = 1_000;

export interface RepeatReport {
  /** Entities of the repairs that were repeated. */
  readonly entities: number;
  /** Why some have to wait: do it again. */
  readonly waiting: readonly string[];
}

/**
 * What the control table says is still to be done, if anything: it may be ended anywhere, and done twice.
 * @throws InfrastructureError `archive_unavailable`; what rebuilding throws
 */
export async function repeatRepairs(ports: RepeatPorts): Promise<RepeatReport> {
  const due = await ports.table.getRepeat();
  if (due === null) return { entities: 0, waiting: [] };
  const report = await repeat(ports, due);
  // Where another store was opened meanwhile, it stays to be done.
  if (report.waiting.length === 0) await ports.table.putRepeat({ ...due, done: true }, due);
  return report;
}

async function repeat(ports: RepeatPorts, { sinceMs, beforeMs }: RepeatRecord): Promise<RepeatReport> {
  const { plan, settle, rebuild } = ports;
  const waiting = new Set<string>();
  let entities = 0;
  for (const stream of plan.streams) {
    const repairs: ArchivedRepair[] = [];
    for (const tenant of await ports.tenants(stream.name)) {
      const isCompacted = sinceMs !== null && sinceMs < Date.now() - RAW_MS;
      repairs.push(
        ...(await (isCompacted ? repairsOfAll(ports, stream, tenant, sinceMs) : rawRepairs(ports, stream, tenant))),
      );
    }
    const newestMs = repairs.reduce(
      (most, { visibleMs }) => (visibleMs > beforeMs ? most : Math.max(most, visibleMs)),
      0,
    );
    const lost = repairs.filter(({ visibleMs }) => visibleMs >= (sinceMs ?? newestMs - SUFFIX_MS));
    for (const group of plan.groups.filter((each) => each.stream === stream.name)) {
      const own = lost.filter(({ entity }) => entity === group.entity);
      for (const [tenant, of] of Map.groupBy(own, ({ tenant }) => tenant)) {
        const byId = Map.groupBy(of, ({ id }) => id);
        const ids = [...byId.keys()];
        entities += ids.length;
        await settle(
          [...byId].map(([id, repaired]) => {
            const bucket = bucketOf(tenant, group.entity, id);
            const key = entityKey(bucket, tenant, group.entity, group.stream, id);
            return { bucket, key, groupId: group.id, identities: repaired.map(({ identity }) => identity) };
          }),
        );
        for (let from = 0; from < ids.length; from += TOGETHER) {
          const { state, reason } = await rebuild(group, tenant, ids.slice(from, from + TOGETHER));
          if (state === "waiting") waiting.add(reason!);
        }
      }
    }
  }
  return { entities, waiting: [...waiting] };
}

interface ArchivedRepair {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  readonly identity: string;
  readonly visibleMs: number;
}

/** Of the last day: all repairs are in objects of their own. */
async function rawRepairs({ mirror }: RepeatPorts, stream: Stream, tenant: string): Promise<ArchivedRepair[]> {
  const repairs: ArchivedRepair[] = [];
  const objects = await mirror.list(`raw/tenant=${tenantPartition(tenant)}/stream=${stream.name}/`);
  for (const { key } of objects.filter((object) => object.key.includes(`-${REPAIR_SHARD}-`))) {
    const body = await mirror.get(key);
    for (const { identity, fates } of body === null ? [] : readArchive(body)) {
      for (const { entity, id, fate, visibleMs } of fates)
        if (fate === "repaired") repairs.push({ tenant, entity, id, identity: identity!, visibleMs: visibleMs! });
    }
  }
  return repairs;
}

/** Of longer ago they are compacted with all else: a look at the fates of every event that windows still need. */
async function repairsOfAll(
  ports: RepeatPorts,
  stream: Stream,
  tenant: string,
  sinceMs: number,
): Promise<ArchivedRepair[]> {
  const { plan, mirror, duck } = ports;
  // Nothing is compacted of a young stream.
  const compacted = await mirror.list(`compacted/tenant=${tenantPartition(tenant)}/stream=${stream.name}/`);
  if (compacted.length === 0) return rawRepairs(ports, stream, tenant);
  const groups = plan.groups.filter((group) => group.stream === stream.name);
  const nowMs = Date.now();
  const fromMs = Math.min(...groups.map((group) => neededFromMs(group, nowMs - DAY_MS, 0)));
  const session = await DuckSession.open(duck);
  try {
    await mountArchive(session, mirror, { tenant, stream, fromMs, toMs: nowMs + DAY_MS }, "archive");
    const rows = await session.rows(`
SELECT DISTINCT identity, f.entity AS entity, f.id AS id, f.visible_ms AS visible_ms
FROM (SELECT identity, UNNEST(fates) AS f FROM archive WHERE reason IS NULL) WHERE f.fate = 'repaired' AND f.visible_ms >= ${sinceMs}`);
    return rows.map(({ identity, entity, id, visible_ms }) => ({
      ...{ tenant, entity, id, identity, visibleMs: Number(visible_ms) },
    }));
  } finally {
    session.close();
  }
}
