/**
 * After a failover the new primary may lack the newest repairs, which the archive holds as done: their entities are built anew. Nothing is repaired while
 * a failover stands, so the newest repair that there is was made before it, and what may be lost lies in the minutes before that.
 */
import { readArchive } from "../../adapters/archive.ts";
import { tenantPartition } from "../../adapters/object-path.ts";
import type { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { bucketOf, entityKey } from "../../adapters/valkey/layout.ts";
import type { Group, Plan } from "../../core/plan.ts";
import type { EntityBuildReport } from "./entity-build.ts";
import { REPAIR_SHARD } from "./repair.ts";
import type { SettledEntity } from "./settle-repairs.ts";

export interface RepeatPorts {
  readonly plan: Plan;
  readonly tenants: (stream: string) => Promise<readonly string[]>;
  readonly mirror: Pick<ArchiveMirror, "list" | "get">;
  /** A replica may lack that a repair was settled: puts of its entity would wait for it. */
  readonly settle: (entities: readonly SettledEntity[]) => Promise<void>;
  readonly rebuild: (group: Group, tenant: string, ids: readonly string[]) => Promise<EntityBuildReport>;
}

/** What a replica may lack at most. */
const SUFFIX_MS = 120_000;
/** Built with one query. */
const TOGETHER = 1_000;

export interface RepeatReport {
  /** Entities of the repairs that were repeated. */
  readonly entities: number;
  /** Why some have to wait: do it again. */
  readonly waiting: readonly string[];
}

/**
 * @param sinceMs repairs that became visible from then on, of a store that was restored as of then. @default the newest ones
 * @throws InfrastructureError `archive_unavailable`; what rebuilding throws
 */
export async function repeatRepairs(
  { plan, tenants, mirror, settle, rebuild }: RepeatPorts,
  sinceMs?: number,
): Promise<RepeatReport> {
  const waiting = new Set<string>();
  let entities = 0;
  for (const stream of plan.streams) {
    const repairs: { tenant: string; entity: string; id: string; identity: string; visibleMs: number }[] = [];
    for (const tenant of await tenants(stream.name)) {
      // Objects stay for a day after they are compacted, and all repairs are in objects of their own.
      const objects = await mirror.list(`raw/tenant=${tenantPartition(tenant)}/stream=${stream.name}/`);
      for (const { key } of objects.filter((object) => object.key.includes(`-${REPAIR_SHARD}-`))) {
        const body = await mirror.get(key);
        for (const { identity, fates } of body === null ? [] : readArchive(body)) {
          for (const { entity, id, fate, visibleMs } of fates) {
            if (fate === "repaired") repairs.push({ tenant, entity, id, identity: identity!, visibleMs: visibleMs! });
          }
        }
      }
    }
    const newestMs = repairs.reduce((most, { visibleMs }) => Math.max(most, visibleMs), 0);
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
