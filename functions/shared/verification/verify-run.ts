/** Which entities are verified: one, a sample of each type, or all of them, a part for each call. */
import { hash64 } from "../../../adapters/hash.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { DIFFERENCES_TOLD, type VerifiedEntities, type VerifyReport } from "./verification.ts";

export interface VerifyRequest {
  /** @default all */
  readonly tenant?: string;
  /** @default all types with features of events */
  readonly entity?: string;
  /** One of `entity`. */
  readonly id?: string;
  /** Of each tenant and type, chosen by hash. */
  readonly sample?: number;
  /** Another word is another sample. @default the day */
  readonly seed?: string;
  /** Instead of a sample. */
  readonly all?: boolean;
  /** What was pushed as well: its archive is read for as long as values are good. @default false */
  readonly pushed?: boolean;
  /** Where an earlier call has come to: its `next`. */
  readonly after?: string;
  /** Of this call, from when its entities are listed: no part is begun after it. @default as long as there is time */
  readonly budgetMs?: number;
}

export interface VerifyRunReport extends VerifyReport {
  readonly entities: Readonly<Record<string, number>>;
  readonly seconds: number;
  /** Where to go on; null when it is done. */
  readonly next: string | null;
}

export interface VerifyRunPorts {
  readonly plan: Plan;
  readonly tenants: () => Promise<readonly string[]>;
  /** Ids that the store has a hash of, by `tenant/entity`. */
  readonly storeIds: () => Promise<ReadonlyMap<string, ReadonlySet<string>>>;
  readonly archiveIds: (tenant: string, entity: string, pushed: boolean) => Promise<readonly string[]>;
  readonly verify: (of: VerifiedEntities) => Promise<VerifyReport>;
  readonly clock: () => number;
}

const DAY_MS = 86_400_000;
/** Looked at together: one query of the archive. */
const TOGETHER = 2_000;
/** A call lists store and archive anew: a long list is worth a longer call. */
const LISTS_WORTH = 4;

/** @param deadlineMs no part is begun after it. @throws FreshetError `verify_request`, and those of `verifyEntities` */
export async function runVerify(
  ports: VerifyRunPorts,
  request: VerifyRequest,
  deadlineMs: number,
): Promise<VerifyRunReport> {
  const { plan, clock, verify } = ports;
  const startedMs = clock();
  const { pushed = false } = request;
  const all = pushed ? plan.entities.map(({ name }) => name) : plan.views.map((view) => view.entity);
  const types = request.entity === undefined ? [...new Set(all)] : [request.entity];
  if (types.some((type) => !all.includes(type))) {
    throw new FreshetError(
      "entity_unknown",
      `no entity with features${pushed ? "" : " of events"} is named ${request.entity}`,
      {
        field: "entity",
        repair: `use ${[...new Set(all)].join(", ")}`,
      },
    );
  }
  if (request.id !== undefined && (request.entity === undefined || request.tenant === undefined)) {
    throw new FreshetError("verify_request", "an id is one entity's of one tenant", {
      field: "entity",
      repair: "give tenant and entity with it",
    });
  }
  const tenants = request.tenant === undefined ? await ports.tenants() : [request.tenant];
  const stored = request.id === undefined ? await ports.storeIds() : new Map<string, ReadonlySet<string>>();
  const total = { checked: 0, racing: 0, differing: 0, notReady: 0, objects: 0, bytes: 0 };
  const differences: VerifyReport["differences"][number][] = [];
  const entities: Record<string, number> = {};
  const report = (next: string | null): VerifyRunReport => ({
    ...{ ...total, differences: differences.slice(0, DIFFERENCES_TOLD), entities, next },
    seconds: (clock() - startedMs) / 1_000,
  });
  let untilMs: number | null = null;
  for (const tenant of tenants.toSorted()) {
    for (const entity of types.toSorted()) {
      const place = `${tenant}/${entity}`;
      if (request.after !== undefined && place < placeOf(request.after)) continue;
      const chosen = await idsOf(ports, request, stored.get(place) ?? new Set(), { tenant, entity });
      const { budgetMs = Number.POSITIVE_INFINITY } = request;
      untilMs ??= Math.min(deadlineMs, clock() + Math.max(budgetMs, LISTS_WORTH * (clock() - startedMs)));
      for (let from = 0; from < chosen.length; from += TOGETHER) {
        const part = chosen.slice(from, from + TOGETHER);
        // At least one part a call, or it would never end.
        if (clock() > untilMs && total.checked > 0) return report(`${place}/${chosen[from - 1]?.order ?? ""}`);
        const found = await verify({ tenant, entity, ids: part.map(({ id }) => id), pushed });
        for (const name of ["checked", "racing", "differing", "notReady"] as const) total[name] += found[name];
        for (const name of ["objects", "bytes"] as const) total[name] = Math.max(total[name], found[name]);
        differences.push(...found.differences);
        entities[entity] = (entities[entity] ?? 0) + found.checked;
      }
    }
  }
  return report(null);
}

const placeOf = (after: string): string => after.slice(0, after.lastIndexOf("/"));

/** The sample of a day. */
export const seedOfDay = (nowMs: number): string => new Date(Math.floor(nowMs / DAY_MS) * DAY_MS).toISOString();

/** In the order of their hashes. An entity that the store has lost is known to the archive alone, and the other way round. */
async function idsOf(
  { archiveIds, clock }: VerifyRunPorts,
  { id, all, sample = 100, seed, after, pushed = false }: VerifyRequest,
  stored: ReadonlySet<string>,
  { tenant, entity }: { readonly tenant: string; readonly entity: string },
): Promise<{ id: string; order: string }[]> {
  if (id !== undefined) return [{ id, order: "" }];
  const word = seed ?? (all ? "all" : seedOfDay(clock()));
  const ids = new Set([...stored, ...(await archiveIds(tenant, entity, pushed))]);
  const ordered = [...ids]
    .map((one) => ({ id: one, order: hash64(`${word}/${one}`) }))
    .sort((a, b) => (a.order < b.order ? -1 : 1));
  const chosen = all ? ordered : ordered.slice(0, sample);
  const isSamePlace = after !== undefined && placeOf(after) === `${tenant}/${entity}`;
  const done = isSamePlace ? after.slice(after.lastIndexOf("/") + 1) : "";
  return chosen.filter(({ order }) => order > done);
}
