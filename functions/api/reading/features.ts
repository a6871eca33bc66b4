/** Online features: one entity set, many rows, or everything known of one entity. Answers are written as JSON text directly. */
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { typeName } from "../../../core/errors.ts";
import type { FeatureValue, Scalar, Service, Status, Value } from "../../../core/plan.ts";
import type { Scorer } from "../../../core/scoring/scoring.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import type { Observations } from "../catalogue/observations.ts";
import { MAX_BATCH_ROWS, MAX_QUERY_BYTES } from "../limits.ts";
import type { Telemetry } from "../observability/telemetry.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import type { RegisteredFeatures } from "../registered/tenant-features.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { readRequestFields } from "../scoring/request-fields.ts";
import { createRowReader, type ReadRows, type Row, scalarJson, valuesJson } from "./read-rows.ts";
import { type Catalogue, checkKey, checkKeyOrNull, type Selection } from "./selection.ts";
import { selectFeatures, selectService } from "./tenant-selection.ts";

interface FeatureDependencies {
  readonly catalogue: Catalogue;
  /** What tenants have registered; null for a host that cannot know. */
  readonly registered: RegisteredFeatures | null;
  readonly reader: OnlineReader;
  readonly scorers: ReadonlyMap<string, Scorer>;
  readonly telemetry: Telemetry;
  readonly clock: () => number;
  readonly observations: Observations;
}

export function createFeatureHandlers(deps: FeatureDependencies): { online: Handle; batch: Handle; entity: Handle } {
  const { catalogue } = deps;
  const readRows = createRowReader(deps);

  return {
    async online({ c, principal, requestId, ticket }: Call): Promise<Answer> {
      const body = await readObject(c, MAX_QUERY_BYTES);
      checkMembers(body, "service" in body ? ONLINE_OF_SERVICE : BY_NAME);
      const keys = objectField(body, "entities");
      checkJoinKeys(catalogue, keys, "entities.");
      const chosen = selectionOf(deps, body, principal.tenant);
      const { selection, scorer } = chosen instanceof Promise ? await chosen : chosen;
      // With the service's request fields, the features that are computed on demand are answered too.
      const given = body["request"] === undefined ? null : objectField(body, "request");
      const request = scorer === null ? null : given;
      const fields = request === null ? null : requestFields(scorer!.service, request);
      ticket.charge(1);
      const read = await readRows("online", selection, principal.tenant, [{ keys, prefix: "entities." }]);
      let features = featuresJson(selection, read.values[0]);
      if (fields !== null) features += onDemandJson(scorer!, fields, read.values[0]);
      const answer = `{"features":{${features}},${tailJson(selection, read, requestId)}`;
      return { status: 200, body: answer, headers: selection.deprecation?.headers };
    },

    async batch({ c, principal, requestId, ticket, turn }: Call): Promise<Answer> {
      const body = await readObject(c, MAX_QUERY_BYTES);
      checkMembers(body, BY_NAME);
      const rows = rowsOf(catalogue, body["entities"]);
      const { selection } = await selectionOf(deps, body, principal.tenant);
      await turn(rows.length);
      ticket.charge(rows.length);
      const read = await readRows("batch", selection, principal.tenant, rows);
      const names = JSON.stringify(selection.names);
      const answer = `{"features":${names},"rows":[${rowsJson(read.values)}],${tailJson(selection, read, requestId)}`;
      return { status: 200, body: answer, headers: selection.deprecation?.headers };
    },

    async entity({ c, principal, requestId, ticket }: Call): Promise<Answer> {
      const own = deps.registered?.of(principal.tenant);
      const selection = catalogue.entity(c.req.param("entity") as string, await own);
      const id = checkKey(c.req.param("id") as string, "id");
      const [part] = selection.parts;
      const keys = part === undefined ? {} : { [part.joinKey]: id };
      ticket.charge(1);
      const read = await readRows("entity", selection, principal.tenant, [{ keys, prefix: "" }]);
      const head = `"entity":${JSON.stringify(c.req.param("entity"))},"id":${JSON.stringify(id)}`;
      return {
        status: 200,
        body: `{${head},"features":{${featuresJson(selection, read.values[0])}},${tailJson(selection, read, requestId)}`,
        headers: { "cache-control": "no-store", ...selection.deprecation?.headers },
      };
    },
  };
}

const BY_NAME = ["entities", "features", "service"];
const ONLINE_OF_SERVICE = [...BY_NAME, "request"];

function checkMembers(body: JsonObject, known: readonly string[]): void {
  if (known === BY_NAME && "request" in body) {
    throw new Problem("field_unknown", 'a read takes "request" beside "service" alone, and of one row', {
      field: "request",
      repair: "leave it out; with POST /v1/features/online and a service it adds what is computed on demand",
    });
  }
  checkFields(body, known, "a read");
}

/** All that the service declares, and nothing else: what is misspelt may be one that is null. */
function requestFields(service: Service, given: JsonObject): Record<string, Scalar> {
  checkFields(given, Object.keys(service.request), `request of ${service.name}`, "request.");
  return readRequestFields(service, given, (name) => `request.${name}`);
}

function rowsOf(catalogue: Catalogue, given: unknown): Row[] {
  if (!Array.isArray(given) || given.length === 0) {
    throw new Problem("wrong_type", `entities is an array of one or more objects, given ${typeName(given)}`, {
      field: "entities",
      repair: 'send one object for each row: [{"card_id": "c1"}, {"card_id": "c2"}]',
    });
  }
  if (given.length > MAX_BATCH_ROWS) {
    throw new Problem("too_many_rows", `a batch has at most ${MAX_BATCH_ROWS} rows, given ${given.length}`, {
      field: "entities",
      repair: "split it into several requests",
    });
  }
  return given.map((keys, i) => {
    const prefix = `entities[${i}]`;
    if (typeof keys !== "object" || keys === null || Array.isArray(keys)) {
      throw new Problem("wrong_type", `${prefix} is an object of join keys, given ${typeName(keys)}`, {
        field: prefix,
        repair: 'send {"card_id": "c1"}',
      });
    }
    checkJoinKeys(catalogue, keys, `${prefix}.`);
    return { keys, prefix: `${prefix}.` };
  });
}

function objectField(body: JsonObject, field: string): JsonObject {
  const value = body[field];
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new Problem(
    value === undefined ? "field_missing" : "wrong_type",
    value === undefined ? `${field} is required` : `${field} is an object, given ${typeName(value)}`,
    { field, repair: field === "entities" ? 'send {"card_id": "c1"}' : "send an object of fields" },
  );
}

/** All keys given, those that no feature asks for too: a mistake in them is a mistake all the same. */
function checkJoinKeys(catalogue: Catalogue, keys: JsonObject, prefix: string): void {
  for (const name in keys) {
    if (catalogue.isJoinKey(name)) {
      checkKeyOrNull(keys[name], name, prefix);
      continue;
    }
    throw new Problem("entity_unknown", `no entity has the join key "${shorten(name)}"`, {
      field: `${prefix}${shorten(name)}`,
      repair: suggest(name, catalogue.joinKeys),
    });
  }
}

interface Chosen {
  readonly selection: Selection;
  readonly scorer: Scorer | null;
}

function selectionOf(deps: FeatureDependencies, body: JsonObject, tenant: string): Chosen | Promise<Chosen> {
  const { features, service } = body;
  if ((features === undefined) === (service === undefined)) {
    throw new Problem("selection_invalid", "a request has either features or service", {
      field: "features",
      repair: 'send "features": ["card_activity:tx_count_1h"] or "service": "fraud"',
    });
  }
  if (service !== undefined) {
    if (typeof service !== "string") {
      throw new Problem("wrong_type", `service is a string, given ${typeName(service)}`, {
        field: "service",
        repair: 'send "service": "fraud"',
      });
    }
    const scorer = deps.scorers.get(service) ?? null;
    const selection = selectService(deps.catalogue, deps.registered, tenant, service);
    return selection instanceof Promise
      ? selection.then((found) => ({ selection: found, scorer }))
      : { selection, scorer };
  }
  if (!Array.isArray(features) || features.length === 0 || !features.every((name) => typeof name === "string")) {
    throw new Problem("wrong_type", "features is an array of one or more names", {
      field: "features",
      repair: 'send "features": ["card_activity:tx_count_1h"]',
    });
  }
  const selection = selectFeatures(deps.catalogue, deps.registered, tenant, features, "features");
  return selection instanceof Promise
    ? selection.then((found) => ({ selection: found, scorer: null }))
    : { selection, scorer: null };
}

function featuresJson({ jsonHeads }: Selection, values: readonly FeatureValue[]): string {
  const texts = valuesJson(values);
  let json = "";
  let last: FeatureValue | null = null;
  let tail = "";
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    // Features of a view mostly share both: each piece of text that is put together costs about as much as a number in it.
    if (value.status !== last?.status || value.eventTimeMs !== last.eventTimeMs) {
      tail = `,"status":"${value.status}","event_time_ms":${value.eventTimeMs}}`;
    }
    last = value;
    json += jsonHeads[i] + texts[i] + tail;
  }
  return json;
}

function onDemandJson(scorer: Scorer, request: Record<string, Scalar>, stored: readonly FeatureValue[]): string {
  const { values } = scorer.evaluate(request, stored);
  return scorer.service.onDemand
    .map((name, i) => {
      const value = values[scorer.service.features.length + i];
      const status = value === null ? "NULL_VALUE" : "PRESENT";
      return `,${JSON.stringify(name)}:{"value":${scalarJson(value)},"status":"${status}","event_time_ms":null}`;
    })
    .join("");
}

const STATUS_JSON: Readonly<Record<Status, string>> = {
  PRESENT: '"PRESENT"',
  NULL_VALUE: '"NULL_VALUE"',
  NOT_FOUND: '"NOT_FOUND"',
  OUTSIDE_MAX_AGE: '"OUTSIDE_MAX_AGE"',
  NOT_READY: '"NOT_READY"',
};

/** Rows of a batch, each as arrays aligned with the answer's `features`: names are sent once, not once a row. */
function rowsJson(rows: readonly (readonly FeatureValue[])[]): string {
  const statuses = new RunJson();
  const times = new RunJson();
  let json = "";
  for (const row of rows) {
    const values = new Array<Value>(row.length);
    let timeMs: number | null = null;
    let time = "null";
    for (let i = 0; i < row.length; i++) {
      const { value, status, eventTimeMs } = row[i];
      values[i] = value;
      statuses.add(STATUS_JSON[status]);
      if (eventTimeMs !== timeMs) {
        timeMs = eventTimeMs;
        time = `${eventTimeMs}`;
      }
      times.add(time);
    }
    // As one array: many small pieces of text put together cost more than the numbers in them.
    const list = JSON.stringify(values);
    json += `${json === "" ? "" : ","}{"values":${list},"statuses":${statuses.end()},"event_times_ms":${times.end()}}`;
  }
  return json;
}

/**
 * JSON arrays of which neighbours are mostly equal, and often all: features of a view share status and time, and an answer has thousands of
 * them. One of equal items that comes again is not written again.
 */
class RunJson {
  private json = "";
  private run = "";
  private count = 0;
  private last = { run: "", count: 0, array: "[]" };

  /** @param item as JSON */
  add(item: string): void {
    if (item !== this.run) this.begin(item);
    this.count++;
  }

  /** The array; begins anew. */
  end(): string {
    const { run, count } = this;
    if (this.json === "") {
      if (run !== this.last.run || count !== this.last.count) {
        this.last = { run, count, array: `[${`${run},`.repeat(count).slice(0, -1)}]` };
      }
      this.run = "";
      this.count = 0;
      return this.last.array;
    }
    this.begin("");
    const array = `[${this.json.slice(1)}]`;
    this.json = "";
    return array;
  }

  private begin(item: string): void {
    if (this.count > 0) this.json += `,${this.run}`.repeat(this.count);
    this.run = item;
    this.count = 0;
  }
}

function tailJson({ deprecation }: Selection, read: Omit<ReadRows, "values">, requestId: string): string {
  const degraded = `"degraded":${read.degraded !== null},"degraded_reason":${JSON.stringify(read.degraded)}`;
  const age = read.snapshotAgeMs === null ? "" : `,"snapshot_age_ms":${read.snapshotAgeMs}`;
  const warnings = deprecation === null ? "" : `,${deprecation.json}`;
  return `"as_of_ms":${read.asOfMs},${degraded}${age}${warnings},"request_id":"${requestId}"}`;
}
