/**
 * `DELETE /v1/cache/{entity}/{id}`: there is no cache that could be stale; what is sealed of the entity is built anew from the archive. A function does it,
 * which the request's item wakes.
 */
import { randomUUID } from "node:crypto";
import { idAt } from "../../../adapters/jobs/materialize-requests.ts";
import type { RebuildRequest, RebuildRequests } from "../../../adapters/jobs/rebuild-requests.ts";
import { KEY_LIMIT } from "../../../core/event.ts";
import type { Plan } from "../../../core/plan.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import type { Answer, Call, Handle } from "../router.ts";

export interface RebuildPorts {
  readonly requests: Pick<RebuildRequests, "put" | "open">;
}

/** Of one tenant: those of all tenants are done by the same function, and each reads the archive. */
const MAX_OPEN = 20;

export function createRebuildHandlers(deps: {
  readonly plan: Plan;
  readonly ports: RebuildPorts;
  readonly clock: () => number;
}): { one: Handle; every: Handle } {
  const { plan, clock } = deps;
  const { requests } = deps.ports;
  const known = [...new Set(plan.groups.map(({ entity }) => entity))];

  async function start(
    { principal: { tenant }, requestId }: Call,
    entities: readonly string[],
    id: string,
  ): Promise<Answer> {
    const nowMs = clock();
    const open = await requests.open(tenant, nowMs);
    const same = (one: RebuildRequest) => one.entityId === id && one.entities.join() === entities.join();
    let request = open.find(same);
    if (request === undefined) {
      if (open.length >= MAX_OPEN) {
        throw new Problem(
          "too_many_jobs",
          `${open.length} rebuilds of the tenant wait or run, the limit is ${MAX_OPEN}`,
          {
            repair: "wait until one of them is done; freshet backfill --restart builds all entities at once",
            headers: { "retry-after": "30" },
          },
        );
      }
      const times = { createdMs: nowMs, updatedMs: nowMs };
      const job = `${idAt(nowMs)}-${randomUUID()}`;
      request = { tenant, id: job, entities, entityId: id, state: "queued", ...times, error: null };
      await requests.put(request);
    }
    const body = { job: request.id, state: request.state, entities, id, request_id: requestId };
    return { status: 202, body: JSON.stringify(body), target: `${entities.join("+")}/${id}` };
  }

  const idOf = ({ c }: Call): string => {
    const id = c.req.param("id") ?? "";
    if (id.length <= KEY_LIMIT) return id;
    throw new Problem("key_too_long", `an id has at most ${KEY_LIMIT} characters, given ${id.length}`, {
      field: "id",
      repair: "send the id as its events have it",
    });
  };

  return {
    async one(call) {
      const name = call.c.req.param("entity") ?? "";
      if (!known.includes(name)) {
        throw new Problem("entity_unknown", `no entity with features of events is named "${shorten(name)}"`, {
          field: "entity",
          repair: suggest(name, known),
        });
      }
      return start(call, [name], idOf(call));
    },
    /** Another's address names no entity: whatever has this id. */
    every: async (call) => start(call, known, idOf(call)),
  };
}
