/** `GET /v1/models` and `POST /v1/models/{name}/aliases/{alias}`: the registry of the key's tenant, over HTTP. */
import { type ModelId, type ModelRegistry, modelName } from "../../../adapters/model/model-registry.ts";
import { promote, retire, rollback } from "../../../adapters/model/promotion.ts";
import type { ServableCheck } from "../../../adapters/model/servable.ts";
import type { ModelServing } from "../../../adapters/model/serving.ts";
import type { FeatureServiceDefinition } from "../../../core/definition.ts";
import { FreshetError, InfrastructureError, typeName } from "../../../core/errors.ts";
import { ALIASES, type Alias, type AliasChange } from "../../../core/scoring/aliases.ts";
import { DEFAULT_GATE } from "../../../core/scoring/gate.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import { MAX_QUERY_BYTES } from "../limits.ts";
import { Problem, suggest } from "../problems.ts";
import type { Catalogue } from "../reading/selection.ts";
import type { Answer, Call, Handle } from "../router.ts";

export function createModelHandlers(deps: {
  catalogue: Catalogue;
  services: readonly FeatureServiceDefinition[];
  registry: ModelRegistry;
  serving: ModelServing;
  clock: () => number;
}): { list: Handle; alias: Handle } {
  const { catalogue, services, registry, serving, clock } = deps;

  const check: ServableCheck = async (record) => {
    try {
      await serving.check(record);
    } catch (cause) {
      if (!(cause instanceof FreshetError) || cause instanceof InfrastructureError) throw cause;
      const { message, repair } = cause;
      throw new Problem("model_unservable", message, {
        field: "version",
        repair,
        extra: { reason: cause.code },
        cause,
      });
    }
  };

  async function modelJson(id: ModelId) {
    const [versions, aliases] = await Promise.all([registry.list(id), registry.aliases(id)]);
    const served = serving.served(id.tenant, id.service);
    return {
      name: id.service,
      aliases: { champion: aliases.champion, challenger: aliases.challenger, shadow: aliases.shadow },
      challenger_share: aliases.share,
      // What this process scores with, which follows the aliases within seconds.
      serving: Object.fromEntries(ALIASES.map((alias) => [alias, served[alias]?.name ?? null])),
      versions: versions.map((one) => ({
        version: one.version,
        model: modelName(one),
        metrics: one.metrics,
        plan_hash: one.planHash,
        git_commit: one.gitCommit,
        created_ms: one.createdMs,
        registered_ms: one.registeredMs,
        by: one.by,
      })),
    };
  }

  async function change(
    id: ModelId,
    alias: Alias,
    by: string,
    body: Readonly<Record<string, unknown>>,
  ): Promise<AliasChange> {
    const nowMs = clock();
    const { version, share = null, force = false, rollback: back = false } = body;
    if (typeof back !== "boolean")
      throw invalid("rollback", `rollback is true or false, given ${typeName(back)}`, "leave it out");
    if (version != null && (!Number.isSafeInteger(version) || (version as number) < 1)) throw invalidVersion(version);
    if (share !== null && typeof share !== "number") {
      throw invalid(
        "share",
        `share is a number from 0 to 1, given ${typeName(share)}`,
        "use 0.1 for a tenth of the traffic",
      );
    }
    if (typeof force !== "boolean")
      throw invalid("force", `force is true or false, given ${typeName(force)}`, "leave it out");
    if (back) {
      if (alias !== "champion")
        throw invalid("rollback", `rollback is of the champion, given ${alias}`, "use version: null");
      return rollback(registry, id, { check, nowMs, by });
    }
    if (version === null && alias !== "champion") return retire(registry, id, { alias, nowMs, by });
    if (version == null) throw invalidVersion(version);
    const gate = services.find(({ name }) => name === id.service)?.gate ?? DEFAULT_GATE;
    const given = { version: version as number, alias, share, force, gate, check, nowMs, by };
    return (await promote(registry, id, given)).change;
  }

  return {
    list: ({ principal }: Call) =>
      reachable(async () => {
        const ids = catalogue.plan.services.map(({ name }) => ({ tenant: principal.tenant, service: name }));
        return { status: 200, body: JSON.stringify({ models: await Promise.all(ids.map(modelJson)) }) };
      }),

    alias: ({ c, principal, requestId }: Call) =>
      reachable(async () => {
        const { service } = catalogue.service(c.req.param("name") as string);
        const alias = aliasOf(c.req.param("alias") as string);
        const body = await readObject(c, MAX_QUERY_BYTES);
        checkFields(body, ["version", "share", "force", "rollback"]);
        const id = { tenant: principal.tenant, service: service.name };
        const done = await change(id, alias, `key ${principal.keyId}`, body);
        // This host at least scores with it before it says so.
        await serving.refresh();
        return {
          status: 200,
          target: targetOf(service.name, done, body),
          body: JSON.stringify({
            alias: done.alias,
            from: done.from,
            to: done.to,
            kind: done.kind,
            forced: done.forced,
            reason: done.reason,
            request_id: requestId,
          }),
        };
      }),
  };
}

/** For the audit record. */
function targetOf(service: string, { alias, from, to, kind, forced }: AliasChange, body: JsonObject): string {
  const share = typeof body["share"] === "number" ? `, share ${body["share"]}` : "";
  const force = body["force"] === true ? `, force${forced ? " over the gate" : ""}` : "";
  const what = `${kind === "rollback" ? "rollback " : ""}version ${from ?? "none"} to ${to ?? "none"}`;
  return `models ${service} ${alias}: ${what}${share}${force}`;
}

function invalidVersion(given: unknown): Problem {
  const what = given === undefined ? "nothing" : typeof given === "number" ? given : typeName(given);
  return invalid("version", `version is a whole number from 1, given ${what}`, "GET /v1/models lists the versions");
}

const invalid = (field: string, message: string, repair: string) =>
  new Problem("wrong_type", message, { field, repair });

function aliasOf(given: string): Alias {
  const found = ALIASES.find((alias) => alias === given);
  if (found !== undefined) return found;
  throw new Problem("alias_unknown", `no alias is named "${given.slice(0, 40)}"`, {
    field: "alias",
    repair: suggest(given, ALIASES),
  });
}

async function reachable(work: () => Promise<Answer>): Promise<Answer> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof InfrastructureError)) throw cause;
    throw new Problem("registry_unavailable", "the model registry does not answer", {
      repair: "send the request again; scoring goes on with the models that serve",
      headers: { "retry-after": "1" },
      cause,
    });
  }
}
