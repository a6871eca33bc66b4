/**
 * `POST /get-online-features` by Feast's contract: columns of values, statuses and times, one for each name. The answer is
 * written as JSON text directly.
 */
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { typeName } from "../../../core/errors.ts";
import type { FeatureValue, Scalar } from "../../../core/plan.ts";
import type { Scorer } from "../../../core/scoring/scoring.ts";
import { type JsonObject, readObjectOfAnyType } from "../body.ts";
import type { Observations } from "../catalogue/observations.ts";
import { MAX_BATCH_ROWS, MAX_QUERY_BYTES } from "../limits.ts";
import type { Telemetry } from "../observability/telemetry.ts";
import { Problem, shorten } from "../problems.ts";
import { createRowReader, type Row, scalarJson } from "../reading/read-rows.ts";
import type { Catalogue } from "../reading/selection.ts";
import type { RegisteredFeatures } from "../registered/tenant-features.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { readRequestFields } from "../scoring/request-fields.ts";
import { columnsJson, NEVER, STATUSES } from "./columns.ts";
import { keyText } from "./keys.ts";
import { readNames } from "./name-lists.ts";
import { checkKeys, FeastNames, type FeastSelection, type OnDemand } from "./names.ts";

export function createFeastOnline(deps: {
  readonly catalogue: Catalogue;
  readonly registered: RegisteredFeatures | null;
  readonly reader: OnlineReader;
  readonly scorers: ReadonlyMap<string, Scorer>;
  readonly telemetry: Telemetry;
  readonly clock: () => number;
  readonly observations: Observations;
}): Handle {
  const { catalogue } = deps;
  const readRows = createRowReader(deps);
  const names = new FeastNames(deps);
  return async ({ c, principal, ticket, turn }: Call): Promise<Answer> => {
    const body = await readObjectOfAnyType(c, MAX_QUERY_BYTES);
    const entities = entitiesOf(body);
    const chosen = selectionOf(names, principal.tenant, body);
    const asked = chosen instanceof Promise ? await chosen : chosen;
    const { keys, rows } = rowsOf(catalogue, entities);
    checkKeys(keys, asked);
    const request = asked.onDemand.map((one) => requestRows(one, entities, rows.length));
    await turn(rows.length);
    ticket.charge(rows.length);
    const read = await readRows("feast", asked.selection, principal.tenant, rows);
    let results = keys.map((key) => keyJson(entities[key])).join(",");
    results += columnsJson(asked.columns, read.values);
    asked.onDemand.forEach((one, i) => {
      results += onDemandJson(one, request[i], read.values);
    });
    const answered = keys.map((key) => JSON.stringify(key)).join(",") + asked.namesJson;
    // Features begin with a comma. A large text is cut only where it has to be: it is copied for that.
    const list = (json: string): string => (keys.length === 0 ? json.slice(1) : json);
    return {
      status: 200,
      body: `{"results":[${list(results)}],"metadata":{"feature_names":[${list(answered)}]}}`,
      // Feast's answer has no place for these.
      headers: {
        ...asked.selection.deprecation?.headers,
        ...(read.degraded === null ? {} : { "x-freshet-degraded": read.degraded }),
      },
    };
  };
}

type Lists = Readonly<Record<string, readonly unknown[]>>;

/** Join keys and request data, each a list with one item a row. */
function entitiesOf(body: JsonObject): Lists {
  const given = body["entities"];
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new Problem(
      given === undefined ? "field_missing" : "wrong_type",
      `entities is an object of lists, given ${given === undefined ? "nothing" : typeName(given)}`,
      { field: "entities", repair: 'send {"card_id": ["c1", "c2"]}' },
    );
  }
  let length: number | null = null;
  for (const name in given) {
    const list = (given as JsonObject)[name];
    const field = `entities.${shorten(name)}`;
    if (!Array.isArray(list)) {
      throw new Problem("wrong_type", `${field} is a list, given ${typeName(list)}`, {
        field,
        repair: `send one item for each row: ["c1"]`,
      });
    }
    if (length !== null && list.length !== length) {
      throw new Problem("entities_uneven", `${field} has ${list.length} items, others have ${length}`, {
        field,
        repair: "send one item for each row in every list",
      });
    }
    length = list.length;
  }
  if (length === null || length === 0) {
    throw new Problem("entities_uneven", "entities has no row", { field: "entities", repair: "send one or more rows" });
  }
  if (length > MAX_BATCH_ROWS) {
    throw new Problem("too_many_rows", `a request has at most ${MAX_BATCH_ROWS} rows, given ${length}`, {
      field: "entities",
      repair: "split it into several requests",
    });
  }
  return given as Lists;
}

function selectionOf(names: FeastNames, tenant: string, body: JsonObject): FeastSelection | Promise<FeastSelection> {
  const { features, feature_service: service, full_feature_names: full } = body;
  if (full !== undefined && full !== null && typeof full !== "boolean") {
    throw new Problem("wrong_type", `full_feature_names is true or false, given ${typeName(full)}`, {
      field: "full_feature_names",
      repair: "send true or false, or leave it out",
    });
  }
  // Looked at whether or not a service wins over it.
  const listed = readNames(features ?? [], "features", 'send "features": ["card_activity:tx_count_1h"]');
  // The service wins, as it does in Feast.
  if (service !== undefined && service !== null && service !== "") {
    if (typeof service === "string") return names.service(tenant, service, full === true);
    throw new Problem("wrong_type", `feature_service is a string, given ${typeName(service)}`, {
      field: "feature_service",
      repair: 'send "feature_service": "fraud"',
    });
  }
  if (listed.length === 0) {
    throw new Problem("selection_invalid", "no features are asked for", {
      field: "features",
      repair: 'send "features": ["card_activity:tx_count_1h"] or "feature_service": "fraud"',
    });
  }
  return names.features(tenant, listed, full === true);
}

/** Rows of what are join keys; other names are request data, or nobody's, which Feast lets pass. */
function rowsOf(catalogue: Catalogue, entities: Lists): { keys: readonly string[]; rows: readonly Row[] } {
  const keys = Object.keys(entities).filter((name) => catalogue.isJoinKey(name));
  const [first] = Object.values(entities);
  const rows = first.map((_, row) => {
    const own: JsonObject = {};
    for (const key of keys) own[key] = keyText(entities[key][row], key, `entities.${key}[${row}]`);
    return { keys: own, prefix: "entities." };
  });
  return { keys, rows };
}

/** @throws Problem `request_data_missing`, and those of request fields */
function requestRows({ scorer }: OnDemand, entities: Lists, rows: number): readonly Record<string, Scalar>[] {
  const { service } = scorer;
  const fields = Object.keys(service.request);
  const missing = fields.filter((name) => !Object.hasOwn(entities, name));
  if (missing.length > 0) {
    throw new Problem("request_data_missing", `features of ${service.name} need ${missing.join(", ")} in entities`, {
      field: `entities.${missing[0]}`,
      repair: "send each as a list with one item a row; null where there is no value",
    });
  }
  return Array.from({ length: rows }, (_, row) => {
    const given = Object.fromEntries(fields.map((name) => [name, entities[name][row]]));
    return readRequestFields(service, given, (name) => `entities.${name}[${row}]`);
  });
}

const nevers = (count: number): string => `,${NEVER}`.repeat(count).slice(1);

function keyJson(values: readonly unknown[]): string {
  const statuses = values.map((value) => (value === null ? STATUSES.NULL_VALUE : STATUSES.PRESENT)).join(",");
  return `{"values":${JSON.stringify(values)},"statuses":[${statuses}],"event_timestamps":[${nevers(values.length)}]}`;
}

function onDemandJson(
  { scorer, inputs, outputs }: OnDemand,
  request: readonly Record<string, Scalar>[],
  rows: readonly (readonly FeatureValue[])[],
): string {
  const first = scorer.service.features.length;
  const evaluated = rows.map(
    (row, i) =>
      scorer.evaluate(
        request[i],
        inputs.map((position) => row[position]),
      ).values,
  );
  let json = "";
  for (const output of outputs) {
    const values = evaluated.map((row) => row[first + output]);
    const statuses = values.map((value) => (value === null ? STATUSES.NULL_VALUE : STATUSES.PRESENT));
    json += `,{"values":[${values.map(scalarJson).join(",")}],"statuses":[${statuses.join(",")}],"event_timestamps":[${nevers(values.length)}]}`;
  }
  return json;
}
