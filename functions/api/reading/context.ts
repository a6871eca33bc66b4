/** `GET /v1/context/{entity}/{id}`: what is known of an entity, for a language model's prompt. */
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { ageInWords, byInformation, type ContextFeature, writeContext } from "../../../core/context.ts";
import type { Plan } from "../../../core/plan.ts";
import { versionedName } from "../../../core/pushed-feature.ts";
import { declaredEntries, entryOf, servicesTaking } from "../catalogue/catalogue-entries.ts";
import type { Observations } from "../catalogue/observations.ts";
import type { Telemetry } from "../observability/telemetry.ts";
import { Problem, shorten } from "../problems.ts";
import type { RegisteredFeatures, TenantFeatures } from "../registered/tenant-features.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { createRowReader } from "./read-rows.ts";
import { type Catalogue, checkKey, type Selection } from "./selection.ts";
import { selectFeatures } from "./tenant-selection.ts";

const FORMATS = ["text", "markdown", "json"] as const;
type Format = (typeof FORMATS)[number];
const TYPES: Readonly<Record<Format, string>> = {
  text: "text/plain; charset=utf-8",
  markdown: "text/markdown; charset=utf-8",
  json: "application/json",
};
export const CONTEXT_PARAMETERS = ["format", "max_tokens", "service", "features"];
const DEFAULT_TOKENS = 1_000;
const MAX_TOKENS = 100_000;

export function createContextHandler(deps: {
  readonly plan: Plan;
  readonly catalogue: Catalogue;
  readonly registered: RegisteredFeatures | null;
  readonly reader: OnlineReader;
  readonly telemetry: Telemetry;
  readonly clock: () => number;
  readonly observations: Observations;
}): Handle {
  const { plan, catalogue, registered } = deps;
  const declared = declaredEntries(plan);
  const readRows = createRowReader(deps);

  /** Of a service what the tenant has; a registered feature under the version that the service takes. */
  function namesOf(name: string, own: TenantFeatures | undefined): string[] {
    const { service } = catalogue.service(name);
    return service.features.flatMap((feature) => {
      const input = service.registered?.find((one) => one.name === feature);
      if (input === undefined) return feature;
      const found = own?.input(input);
      return found === undefined ? [] : versionedName(found);
    });
  }

  /** All of the entity, or those that are asked for. */
  async function select(tenant: string, entity: string, query: Query, own: TenantFeatures | undefined) {
    const whole = catalogue.entity(entity, own);
    if (query.service === null && query.features === null) return whole;
    const names = query.features ?? namesOf(query.service!, own);
    const asked = await selectFeatures(catalogue, registered, tenant, names, "features");
    const part = asked.parts.find((each) => each.entity === entity);
    const field = query.features === null ? "service" : "features";
    if (part === undefined || (query.features !== null && asked.parts.length > 1)) {
      const some = query.features === null ? "nothing of the service describes" : "not all of the features describe";
      throw new Problem("selection_invalid", `${some} ${entity}`, {
        field,
        repair: `name features of ${entity}: GET /v1/features?entity=${entity} lists them`,
      });
    }
    return selectFeatures(catalogue, registered, tenant, part.features, "features");
  }

  function featuresOf(selection: Selection, read: Awaited<ReturnType<typeof readRows>>): ContextFeature[] {
    const pushed = selection.pushed[Symbol.iterator]();
    return selection.names.map((name, i) => {
      const entry = declared.get(name) ?? entryOf(pushed.next().value!);
      const { description, unit, deprecated } = entry;
      const replaced = deprecated === null ? null : (deprecated.use ?? "");
      return {
        ...read.values[0][i],
        name,
        description,
        unit,
        services: servicesTaking(plan, entry).length,
        deprecated: replaced,
      };
    });
  }

  return async ({ c, principal, requestId, ticket }: Call): Promise<Answer> => {
    const query = readQuery(c.req.query());
    const entity = c.req.param("entity") as string;
    const own = await registered?.of(principal.tenant);
    const selection = await select(principal.tenant, entity, query, own);
    const id = checkKey(c.req.param("id") as string, "id");
    const { joinKey } = plan.entities.find(({ name }) => name === entity)!;
    ticket.charge(1);
    const read = await readRows("context", selection, principal.tenant, [{ keys: { [joinKey]: id }, prefix: "" }]);
    const features = featuresOf(selection, read);
    const { format, maxTokens } = query;
    const { asOfMs, degraded, snapshotAgeMs } = read;
    const state = { entity, id, asOfMs, degraded, snapshotAgeMs, maxTokens };
    const body =
      format === "json"
        ? jsonContext(features, { ...state, requestId })
        : (writeContext(features, { ...state, format })?.text ?? tooSmall(maxTokens));
    const headers = { "cache-control": "no-store", ...selection.deprecation?.headers };
    return { status: 200, body, contentType: TYPES[format], headers };
  };
}

/** The same, for programs that write the prompt themselves. A feature counts as its line of text would. */
function jsonContext(
  features: readonly ContextFeature[],
  options: {
    entity: string;
    id: string;
    asOfMs: number;
    degraded: string | null;
    snapshotAgeMs: number | null;
    maxTokens: number;
    requestId: string;
  },
): string {
  const { entity, id, asOfMs, degraded, snapshotAgeMs, maxTokens, requestId } = options;
  const counted = { entity, id, asOfMs, degraded, snapshotAgeMs, format: "text", maxTokens } as const;
  const context = writeContext(features, counted) ?? tooSmall(maxTokens);
  const lines = new Set(context.text.split("\n").map((line) => line.slice(0, line.indexOf(": "))));
  const ordered = [...features].sort(byInformation);
  const shown = ordered.filter(({ name, status }) => status === "PRESENT" && lines.has(name));
  return JSON.stringify({
    entity,
    id,
    features: shown.map(({ name, description, unit, value, eventTimeMs, deprecated }) => ({
      ...{ name, description, unit, value, event_time_ms: eventTimeMs },
      age: eventTimeMs === null ? null : ageInWords(asOfMs - eventTimeMs),
      deprecated: deprecated !== null,
    })),
    left_out: ordered.filter((one) => one.status === "PRESENT" && !shown.includes(one)).map(({ name }) => name),
    without_value: ordered.filter(({ status }) => status !== "PRESENT").map(({ name, status }) => ({ name, status })),
    tokens: context.tokens,
    as_of_ms: asOfMs,
    degraded: degraded !== null,
    degraded_reason: degraded,
    snapshot_age_ms: snapshotAgeMs ?? undefined,
    request_id: requestId,
  });
}

function tooSmall(maxTokens: number): never {
  throw new Problem("wrong_type", `max_tokens ${maxTokens} does not hold the entity's name and what is left out`, {
    field: "max_tokens",
    repair: `leave it out for ${DEFAULT_TOKENS}`,
  });
}

interface Query {
  readonly format: Format;
  readonly maxTokens: number;
  readonly service: string | null;
  readonly features: readonly string[] | null;
}

function readQuery(query: Readonly<Record<string, string>>): Query {
  const { format = "text", max_tokens = String(DEFAULT_TOKENS), service = null, features } = query;
  const known = FORMATS.find((one) => one === format);
  if (known === undefined) {
    throw new Problem("wrong_type", `format is text, markdown or json, given "${shorten(format)}"`, {
      field: "format",
      repair: "leave it out for text",
    });
  }
  const maxTokens = /^[1-9]\d{0,5}$/.test(max_tokens) ? Number(max_tokens) : 0;
  if (maxTokens < 1 || maxTokens > MAX_TOKENS) {
    throw new Problem(
      "wrong_type",
      `max_tokens is a whole number from 1 to ${MAX_TOKENS}, given "${shorten(max_tokens)}"`,
      {
        field: "max_tokens",
        repair: `leave it out for ${DEFAULT_TOKENS}`,
      },
    );
  }
  if (service !== null && features !== undefined) {
    throw new Problem("selection_invalid", "a request has either features or service, or neither for all", {
      field: "features",
      repair: "leave one of them out",
    });
  }
  return { format: known, maxTokens, service, features: features === undefined ? null : features.split(",") };
}
