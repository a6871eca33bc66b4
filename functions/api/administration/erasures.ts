/** `/v1/erasures`: a tenant's administrators ask for entities to be erased, and see what became of it (docs/erasure.md). */
import { randomBytes } from "node:crypto";
import type { Erasures } from "../../../adapters/erasure/erasures.ts";
import type { ErasedEntity } from "../../../core/erasure.ts";
import { InfrastructureError, typeName } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { erasureJson, MAX_SUBJECTS, newErasure } from "../../shared/erasure/erasure-request.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import { MAX_QUERY_BYTES } from "../limits.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import { isPossibleId, limitOf } from "../query.ts";
import { checkKey } from "../reading/selection.ts";
import type { Answer, Call, Handle } from "../router.ts";

const DEFAULT_LIMIT = 100;
/** Who is erased is nobody else's business, a proxy's neither. */
const PRIVATE = { "cache-control": "no-store" };

export function createErasureHandlers(deps: {
  readonly plan: Plan;
  readonly erasures: Pick<Erasures, "create" | "get" | "list">;
  readonly clock: () => number;
}): { create: Handle; list: Handle; one: Handle } {
  const { plan, erasures, clock } = deps;
  return {
    create: ({ c, principal, requestId }: Call) =>
      reachable(async () => {
        const body = await readObject(c, MAX_QUERY_BYTES);
        const { subjects, block } = requestOf(plan, body);
        const request = { tenant: principal.tenant, subjects, block, by: `key ${principal.keyId}` };
        const erasure = newErasure(plan, request, clock(), randomBytes(6).toString("hex"));
        await erasures.create(erasure);
        return {
          status: 202,
          body: JSON.stringify({ ...erasureJson(erasure), request_id: requestId }),
          headers: { ...PRIVATE, location: `/v1/erasures/${erasure.id}` },
          // Not whom: the audit log outlives the erasure.
          target: `erasure ${erasure.id} of ${subjects.length}`,
        };
      }),

    list: ({ c, principal, requestId }: Call) =>
      reachable(async () => {
        const found = await erasures.list(principal.tenant, limitOf(c.req.query("limit"), DEFAULT_LIMIT));
        const body = JSON.stringify({ erasures: found.map(erasureJson), request_id: requestId });
        return { status: 200, body, headers: PRIVATE };
      }),

    one: ({ c, principal, requestId }: Call) =>
      reachable(async () => {
        const id = c.req.param("id") as string;
        const found = isPossibleId(id) ? await erasures.get(principal.tenant, id) : null;
        if (found === null) {
          throw new Problem("erasure_unknown", "the tenant has no erasure of this id", {
            field: "id",
            repair: "GET /v1/erasures lists them",
          });
        }
        return {
          status: 200,
          body: JSON.stringify({ ...erasureJson(found), request_id: requestId }),
          headers: PRIVATE,
        };
      }),
  };
}

/** @throws Problem `field_unknown`, `field_missing`, `wrong_type`, `entity_unknown`, `key_invalid`, `key_too_long`, `too_many_rows` */
function requestOf(plan: Plan, body: JsonObject): { subjects: ErasedEntity[]; block: boolean } {
  checkFields(body, ["subjects", "block"]);
  const { subjects, block = false } = body;
  if (typeof block !== "boolean") throw wrongType("block", "true or false", block);
  if (subjects === undefined) {
    throw new Problem("field_missing", "subjects is required", { field: "subjects", repair: EXAMPLE });
  }
  if (!Array.isArray(subjects) || subjects.length === 0) {
    throw wrongType("subjects", "an array of one or more entities", subjects);
  }
  if (subjects.length > MAX_SUBJECTS) {
    throw new Problem(
      "too_many_rows",
      `at most ${MAX_SUBJECTS} entities are erased at once, given ${subjects.length}`,
      {
        field: "subjects",
        repair: "send several requests",
      },
    );
  }
  return { subjects: subjects.map((subject, i) => subjectOf(plan, subject, `subjects[${i}]`)), block };
}

const EXAMPLE = 'send "subjects": [{"entity": "card", "id": "c1"}]';

function subjectOf(plan: Plan, given: unknown, field: string): ErasedEntity {
  if (typeof given !== "object" || given === null || Array.isArray(given)) throw wrongType(field, "an object", given);
  checkFields(given as JsonObject, ["entity", "id"], field, `${field}.`);
  const { entity, id } = given as JsonObject;
  if (typeof entity !== "string") throw wrongType(`${field}.entity`, "an entity's name", entity);
  const names = plan.entities.map(({ name }) => name);
  if (!names.includes(entity)) {
    throw new Problem("entity_unknown", `there is no entity "${shorten(entity)}"`, {
      field: `${field}.entity`,
      repair: suggest(entity, names),
    });
  }
  if (typeof id !== "string") throw wrongType(`${field}.id`, "a string", id);
  return { entity, id: checkKey(id, `${field}.id`) };
}

const wrongType = (field: string, what: string, given: unknown) =>
  new Problem(
    given === undefined ? "field_missing" : "wrong_type",
    `${field} is ${what}, given ${given === undefined ? "nothing" : typeName(given)}`,
    {
      field,
      repair: EXAMPLE,
    },
  );

async function reachable(work: () => Promise<Answer>): Promise<Answer> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof InfrastructureError)) throw cause;
    throw new Problem("erasures_unavailable", "the table of erasures does not answer", {
      repair: "look with GET /v1/erasures whether it was taken, then try again",
      headers: { "retry-after": "2" },
      cause,
    });
  }
}
