/** `POST /v1/features/push`: values of registered features, row by row, with a result for each that was refused. */
import { typeName } from "../../../core/errors.ts";
import { parseIso } from "../../../core/iso-time.ts";
import { type PushedFeature, versionedName } from "../../../core/pushed-feature.ts";
import type { WriteLedger } from "../administration/write-ledger.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import type { Observations } from "../catalogue/observations.ts";
import { MAX_BODY_BYTES, MAX_FEATURES, MAX_PUSH_ROWS } from "../limits.ts";
import { orSuggest, PROBLEMS, Problem, type ProblemCode, shorten } from "../problems.ts";
import type { Catalogue } from "../reading/selection.ts";
import type { Answer, Call, Handle } from "../router.ts";
import type { Pusher, PushInput, PushOutcome } from "./pusher.ts";
import type { RegisteredFeatures, TenantFeatures } from "./tenant-features.ts";

const MEMBERS = ["features", "entity", "event_time_ms", "rows"];
const ROW_MEMBERS = ["id", "event_time_ms", "values"];

export function createPushHandler(deps: {
  readonly catalogue: Catalogue;
  readonly registered: RegisteredFeatures;
  readonly pusher: Pusher;
  readonly writes: WriteLedger | undefined;
  readonly observations: Pick<Observations, "pushed">;
}): Handle {
  const { catalogue, registered, pusher, writes, observations } = deps;
  return async ({ c, principal, requestId, ticket }: Call): Promise<Answer> => {
    const body = await readObject(c, MAX_BODY_BYTES);
    checkFields(body, MEMBERS, "a push");
    const rows = rowsOf(body["rows"]);
    const listed = body["features"] === undefined ? [] : namesOf(body["features"]);
    const names = allNames(listed, rows);
    const pathOf = (i: number): string => (i < listed.length ? `features[${i}]` : pathInRows(rows, names[i]));
    const features = await findFeatures(catalogue, registered, principal.tenant, names, pathOf);
    const entity = checkFeatures(features, body["entity"]);
    const joinKey = catalogue.plan.entities.find(({ name }) => name === entity)!.joinKey;
    checkRows(rows, joinKey);
    await ticket.charge(rows.length);
    const inputs = inputsOf(rows, names, listed.length, joinKey, body);
    const outcome = await pusher.push(principal.tenant, features, inputs);
    observations.pushed(principal.tenant, features, inputs, outcome);
    for (const view of new Set(features.map((feature) => feature.view))) {
      writes?.note(principal, "features.push", view, outcome.accepted, outcome.refusals.length);
    }
    return answer(outcome, rows, joinKey, requestId);
  };
}

function rowsOf(given: unknown): readonly JsonObject[] {
  const repair = 'send rows as [{"id": "u1", "event_time_ms": 1794268800000, "values": [34]}]';
  if (!Array.isArray(given)) {
    const missing = given === undefined;
    throw new Problem(
      missing ? "field_missing" : "wrong_type",
      missing ? "rows is required" : `rows is an array of objects, given ${typeName(given)}`,
      { field: "rows", repair },
    );
  }
  if (given.length === 0) throw new Problem("body_empty", "rows holds no row", { field: "rows", repair });
  if (given.length > MAX_PUSH_ROWS) {
    throw new Problem("too_many_rows", `a push has at most ${MAX_PUSH_ROWS} rows, given ${given.length}`, {
      field: "rows",
      repair: "split it into several requests",
    });
  }
  const wrong = given.findIndex((row) => typeof row !== "object" || row === null || Array.isArray(row));
  if (wrong < 0) return given;
  throw new Problem("row_shape", `rows[${wrong}] is an object, given ${typeName(given[wrong])}`, {
    field: `rows[${wrong}]`,
    repair,
  });
}

function namesOf(given: unknown): readonly string[] {
  if (Array.isArray(given) && given.length > 0 && given.every((name) => typeof name === "string")) {
    return limited(given);
  }
  throw new Problem("wrong_type", "features is an array of one or more names", {
    field: "features",
    repair: 'send "features": ["profile:age"], and values in their order',
  });
}

function limited(names: readonly string[]): readonly string[] {
  if (names.length <= MAX_FEATURES) return names;
  throw new Problem("too_many_features", `a push names at most ${MAX_FEATURES} features, given ${names.length}`, {
    field: "features",
    repair: "push them in several requests",
  });
}

/** What `features` lists, and whatever else a row names: a value that is sent is pushed or refused. */
function allNames(listed: readonly string[], rows: readonly JsonObject[]): readonly string[] {
  const names = new Set(listed);
  for (const { values } of rows) {
    if (typeof values === "object" && values !== null && !Array.isArray(values)) {
      for (const name in values) names.add(name);
    }
  }
  // One that is listed twice is told as such.
  if (names.size > 0) return limited([...listed, ...[...names].slice(new Set(listed).size)]);
  throw new Problem("field_missing", "a push names its features", {
    field: "features",
    repair: 'send "features": ["profile:age"] and "values": [34], or "values": {"profile:age": 34}',
  });
}

/** What is wrong with how the rows were written, and not with what one of them holds. */
function checkRows(rows: readonly JsonObject[], joinKey: string): void {
  const known = [...ROW_MEMBERS, joinKey];
  rows.forEach((row, i) => {
    checkFields(row, known, "a row of a push", `rows[${i}].`);
    if (row["id"] !== undefined && row[joinKey] !== undefined && row["id"] !== row[joinKey]) {
      throw new Problem("row_shape", `rows[${i}] has an id and another ${joinKey}`, {
        field: `rows[${i}].${joinKey}`,
        repair: `send one of id and ${joinKey}`,
      });
    }
  });
}

/** Where the first row has it that names it. */
function pathInRows(rows: readonly JsonObject[], name: string): string {
  const row = rows.findIndex(({ values }) => typeof values === "object" && Object.hasOwn(values ?? {}, name));
  return `rows[${row}].values.${shorten(name)}`;
}

async function findFeatures(
  { plan }: Catalogue,
  registered: RegisteredFeatures,
  tenant: string,
  names: readonly string[],
  pathOf: (i: number) => string,
): Promise<readonly PushedFeature[]> {
  const find = (own: TenantFeatures) => names.map((name) => own.find(name));
  const own = await registered.of(tenant);
  let found = find(own);
  // It may have been registered on another host a moment ago.
  if (found.includes(undefined)) found = find(await registered.newest(tenant));
  found.forEach((feature, i) => {
    if (feature !== undefined) return;
    const isDeclared = [...plan.views, ...plan.batchViews].some((view) => names[i].startsWith(`${view.name}:`));
    if (isDeclared) {
      throw new Problem("feature_unknown", `${shorten(names[i])} is of a declared view: nothing is pushed to it`, {
        field: pathOf(i),
        repair: "send events, or register a feature in a view of another name with POST /v1/features/register",
      });
    }
    throw new Problem("feature_unknown", `no feature "${shorten(names[i])}" is registered`, {
      field: pathOf(i),
      repair: `register it with POST /v1/features/register${orSuggest(names[i], own.names.slice(0, 200))}`,
    });
  });
  return found as readonly PushedFeature[];
}

/** @returns their entity */
function checkFeatures(features: readonly PushedFeature[], given: unknown): string {
  const [{ entity }] = features;
  const other = features.find((feature) => feature.entity !== entity);
  if (other !== undefined || (given !== undefined && given !== entity)) {
    const names =
      other === undefined
        ? typeof given === "string"
          ? `"${shorten(given)}"`
          : typeName(given)
        : `${entity} and ${other.entity}`;
    throw new Problem("entities_differ", `the features of a push describe one entity, ${entity}; given ${names}`, {
      field: other === undefined ? "entity" : "features",
      repair: "push the features of each entity in a request of their own",
    });
  }
  const seen = new Set<PushedFeature>();
  for (const feature of features) {
    if (seen.has(feature)) {
      throw new Problem("selection_invalid", `${versionedName(feature)} is named twice`, {
        field: "features",
        repair: "name each feature once",
      });
    }
    seen.add(feature);
  }
  return entity;
}

function inputsOf(
  rows: readonly JsonObject[],
  names: readonly string[],
  listed: number,
  joinKey: string,
  body: JsonObject,
): PushInput[] {
  const common = body["event_time_ms"];
  return rows.map((row) => ({
    id: row["id"] ?? row[joinKey],
    eventTimeMs: timeOf(row["event_time_ms"] ?? common),
    values: valuesOf(row["values"], names, listed),
  }));
}

const timeOf = (given: unknown): unknown => (typeof given === "string" ? parseIso(given) : given);

/** @param listed how many of the names are the body's `features`, with which an array is aligned */
function valuesOf(given: unknown, names: readonly string[], listed: number): readonly unknown[] {
  // One that is too short or too long is told from one whose values are left out.
  if (Array.isArray(given)) return given.length === listed ? given : [];
  if (typeof given !== "object" || given === null) return [];
  return names.map((name) => (Object.hasOwn(given, name) ? (given as JsonObject)[name] : undefined));
}

function answer(
  { accepted, refusals, visibleMs }: PushOutcome,
  rows: readonly JsonObject[],
  joinKey: string,
  requestId: string,
): Answer {
  const results = refusals.map(({ index, ...refusal }) => {
    const id = rows[index]["id"] ?? rows[index][joinKey];
    return { index, id: typeof id === "string" ? shorten(id) : null, ...refusal };
  });
  const body = { accepted, refused: results.length, visible_ms: visibleMs, results };
  if (accepted > 0) {
    return { status: results.length === 0 ? 200 : 207, body: JSON.stringify({ ...body, request_id: requestId }) };
  }
  // One reason speaks for itself; several are told by the results.
  const [first] = results;
  const same = results.every(({ code }) => code === first.code) && first.code in PROBLEMS;
  throw new Problem(same ? (first.code as ProblemCode) : "records_invalid", first.detail, {
    field: results.length === 1 ? first.field : undefined,
    repair: same ? first.repair : "repair the rows as their results say",
    extra: body,
  });
}
