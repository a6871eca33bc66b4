/** `POST /push` and `/write-to-online-store` by Feast's contract: columns of values, pushed to registered features of one view. */
import { typeName } from "../../../core/errors.ts";
import { type PushedFeature, versionedName } from "../../../core/pushed-feature.ts";
import type { WriteLedger } from "../administration/write-ledger.ts";
import { type JsonObject, readObjectOfAnyType } from "../body.ts";
import type { Observations } from "../catalogue/observations.ts";
import { MAX_BODY_BYTES, MAX_FEATURES, MAX_PUSH_ROWS } from "../limits.ts";
import { orSuggest, PROBLEMS, Problem, type ProblemCode, shorten, suggest } from "../problems.ts";
import type { Catalogue } from "../reading/selection.ts";
import type { Pusher, PushInput, PushOutcome, PushRefusal } from "../registered/pusher.ts";
import type { RegisteredFeatures, TenantFeatures } from "../registered/tenant-features.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { keyText } from "./keys.ts";
import { parseTime } from "./times.ts";

interface WriteDependencies {
  readonly catalogue: Catalogue;
  readonly registered: RegisteredFeatures;
  readonly pusher: Pusher;
  readonly writes: WriteLedger | undefined;
  readonly observations: Pick<Observations, "pushed">;
}

const TIME = "event_timestamp";
/**
 * Columns that Feast's client sends with every write, null where it has no such time. They say nothing where no feature has their name:
 * when a row was made is its visible time. Where one has, nulls alone are the client's, and no values to write.
 */
const IGNORED = new Set(["created", "created_timestamp"]);
/** All of these write the online store and the archive: there is no value in one that is not in the other. */
const TARGETS = ["online", "online_and_offline"];
/** Names that an unknown one is compared with. */
const SUGGESTED = 200;
/** Features of a view that are shown as those that it has. */
const SHOWN = 12;

export function createFeastWrites(deps: WriteDependencies): { push: Handle; write: Handle } {
  return {
    async push(call: Call): Promise<Answer> {
      const body = await readObjectOfAnyType(call.c, MAX_BODY_BYTES);
      const source = textOf(body, "push_source_name");
      const to = body["to"] ?? "online";
      if (typeof to !== "string" || !TARGETS.includes(to)) {
        const given = typeof to === "string" ? `"${shorten(to)}"` : typeName(to);
        throw new Problem("push_target_invalid", `to is ${TARGETS.join(" or ")}, given ${given}`, {
          field: "to",
          repair: "leave it out: whatever is pushed is archived, too",
        });
      }
      await write(deps, call, body, (own) => viewOf(deps, own, source, "push_source_unknown"));
      return { status: 200, body: "", contentType: "text/plain" };
    },
    async write(call: Call): Promise<Answer> {
      const body = await readObjectOfAnyType(call.c, MAX_BODY_BYTES);
      const view = textOf(body, "feature_view_name");
      await write(deps, call, body, (own) => viewOf(deps, own, view, "view_unknown"));
      return { status: 200, body: "null" };
    },
  };
}

/** What a tenant has registered in one view. */
interface WrittenView {
  readonly name: string;
  readonly entity: string;
  readonly find: (column: string) => PushedFeature | undefined;
  readonly columns: readonly string[];
}

async function write(
  { catalogue, registered, pusher, writes, observations }: WriteDependencies,
  { principal, ticket }: Call,
  body: JsonObject,
  find: (own: TenantFeatures) => WrittenView,
): Promise<void> {
  const { tenant } = principal;
  const columns = columnsOf(body["df"]);
  const [first] = Object.values(columns);
  const known = await registered.of(tenant);
  let view: WrittenView;
  let features: readonly PushedFeature[];
  try {
    view = find(known);
    features = featuresOf(catalogue, view, columns);
  } catch (error) {
    // It may have been registered on another host a moment ago.
    const newest = await registered.newest(tenant);
    if (newest === known) throw error;
    view = find(newest);
    features = featuresOf(catalogue, view, columns);
  }
  if (first === undefined || first.length === 0) return;
  const joinKey = joinKeyOf(catalogue, view.entity);
  const frame = { columns, joinKey, written: featureColumns(view, columns, joinKey) };
  const rows = inputsOf(frame);
  await ticket.charge(rows.length);
  const outcome = await pusher.push(tenant, features, rows);
  observations.pushed(tenant, features, rows, outcome);
  writes?.note(principal, "features.push", view.name, outcome.accepted, outcome.refusals.length);
  refuse(outcome, first.length, frame);
}

function viewOf(
  { catalogue }: WriteDependencies,
  own: TenantFeatures,
  name: string,
  code: "push_source_unknown" | "view_unknown",
): WrittenView {
  const features = own.all.filter((feature) => feature.view === name && own.isCurrent(feature));
  if (features.length > 0) {
    return {
      name,
      entity: features[0].entity,
      find: (column) => own.find(`${name}:${column}`),
      columns: features.map(({ key }) => key),
    };
  }
  const field = code === "view_unknown" ? "feature_view_name" : "push_source_name";
  if (catalogue.views.includes(name)) {
    throw new Problem(code, `${name} is a declared view: its values come from events or from its query`, {
      field,
      repair: "send events, or register features in a view of another name with POST /v1/features/register",
    });
  }
  const views = [...new Set(own.all.map(({ view }) => view))];
  throw new Problem(code, `no features are registered in a view named "${shorten(name)}"`, {
    field,
    repair: `register them with POST /v1/features/register${orSuggest(name, views.slice(0, SUGGESTED))}`,
  });
}

/** The features that columns name. @throws Problem `feature_unknown`, `key_missing_in_body`, `field_missing`, `entities_differ`, `selection_invalid` */
function featuresOf(catalogue: Catalogue, view: WrittenView, columns: Columns): readonly PushedFeature[] {
  const joinKey = joinKeyOf(catalogue, view.entity);
  const names = Object.keys(columns);
  for (const name of names.length === 0 ? [] : [joinKey, TIME]) {
    if (names.includes(name)) continue;
    throw new Problem(
      name === TIME ? "field_missing" : "key_missing_in_body",
      `df has no column ${name}, ${name === TIME ? "when its values were true" : `the id of the ${view.entity}`}`,
      { field: `df.${name}`, repair: `send ${name} with one item for each row` },
    );
  }
  const written = featureColumns(view, columns, joinKey);
  if (written.length > MAX_FEATURES) {
    throw new Problem("too_many_features", `a write has at most ${MAX_FEATURES} features, given ${written.length}`, {
      field: "df",
      repair: "write them in several requests",
    });
  }
  if (written.length === 0 && (columns[joinKey]?.length ?? 0) > 0) {
    throw new Problem("selection_invalid", `df has no column of a feature of ${view.name}`, {
      field: "df",
      repair: `send one or more of ${view.columns.slice(0, SHOWN).join(", ")}`,
    });
  }
  const columnOf = new Map<PushedFeature, string>();
  return written.map((name) => {
    const feature = view.find(name);
    if (feature === undefined) {
      throw new Problem("feature_unknown", `view ${view.name} has no registered feature "${shorten(name)}"`, {
        field: `df.${shorten(name)}`,
        repair: `register it with POST /v1/features/register, or leave the column out; ${suggest(name, view.columns.slice(0, SUGGESTED))}`,
      });
    }
    if (feature.entity !== view.entity) {
      throw new Problem("entities_differ", `columns of one df describe ${view.entity} and ${feature.entity}`, {
        field: `df.${shorten(name)}`,
        repair: "write the features of each entity in a request of their own",
      });
    }
    const other = columnOf.get(feature);
    if (other !== undefined) {
      throw new Problem("selection_invalid", `${versionedName(feature)} is named twice, as ${other} and ${name}`, {
        field: `df.${name}`,
        repair: "send one column for each feature",
      });
    }
    columnOf.set(feature, name);
    return feature;
  });
}

const featureColumns = ({ find }: WrittenView, columns: Columns, joinKey: string): string[] =>
  Object.keys(columns).filter((name) => {
    if (name === joinKey || name === TIME) return false;
    return !IGNORED.has(name) || (find(name) !== undefined && columns[name].some((value) => value !== null));
  });

const joinKeyOf = ({ plan }: Catalogue, entity: string): string =>
  plan.entities.find(({ name }) => name === entity)!.joinKey;

type Columns = Readonly<Record<string, readonly unknown[]>>;
interface Frame {
  readonly columns: Columns;
  readonly joinKey: string;
  /** Columns of features, aligned with these. */
  readonly written: readonly string[];
}

function columnsOf(given: unknown): Columns {
  const repair = 'send {"card_id": ["c1"], "age": [34], "event_timestamp": ["2026-01-31T10:00:00Z"]}';
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new Problem(
      given === undefined ? "field_missing" : "wrong_type",
      `df is an object of columns, given ${given === undefined ? "nothing" : typeName(given)}`,
      { field: "df", repair },
    );
  }
  let rows: number | null = null;
  for (const [name, column] of Object.entries(given)) {
    const field = `df.${shorten(name)}`;
    if (!Array.isArray(column)) {
      throw new Problem("wrong_type", `${field} is a list, given ${typeName(column)}`, { field, repair });
    }
    if (rows !== null && column.length !== rows) {
      throw new Problem("entities_uneven", `${field} has ${column.length} items, others have ${rows}`, {
        field,
        repair: "send one item for each row in every column",
      });
    }
    rows = column.length;
  }
  if ((rows ?? 0) <= MAX_PUSH_ROWS) return given as Columns;
  throw new Problem("too_many_rows", `a push has at most ${MAX_PUSH_ROWS} rows, given ${rows}`, {
    field: "df",
    repair: "split it into several requests",
  });
}

function inputsOf({ columns, joinKey, written }: Frame): PushInput[] {
  const lists = written.map((name) => columns[name]);
  // Rows of one frame mostly have one time.
  let given: unknown;
  let timeMs = 0;
  const timeOf = (text: unknown, row: number): number => {
    if (text !== given) timeMs = parseTime(text, `df.${TIME}[${row}]`);
    given = text;
    return timeMs;
  };
  return columns[joinKey].map((id, row) => ({
    id: keyText(id, joinKey, `df.${joinKey}[${row}]`),
    eventTimeMs: timeOf(columns[TIME][row], row),
    values: lists.map((list) => list[row]),
  }));
}

/** Feast's contract knows no row that is refused alone: the request is, and says what became of the others. */
function refuse({ accepted, refusals: [first, ...more] }: PushOutcome, rows: number, frame: Frame): void {
  if (first === undefined) return;
  const { code, index, detail, field, repair } = { ...first, ...inFrame(first, frame) };
  const others = accepted === 0 ? "none was stored" : `the other ${accepted} are stored, and may be sent again`;
  throw new Problem(
    code in PROBLEMS ? (code as ProblemCode) : "records_invalid",
    `${1 + more.length} of ${rows} rows were refused, ${others}; row ${index}: ${detail}`,
    { field, repair },
  );
}

/** What `/v1/features/push` would say of a row, by the names of columns. */
function inFrame({ code, index, field = "", detail, repair }: PushRefusal, { columns, joinKey, written }: Frame) {
  const [, member, value] = /\.(\w+)(?:\[(\d+)\])?$/.exec(field) ?? [];
  const column = { id: joinKey, event_time_ms: TIME, values: written[Number(value)] }[member];
  const place = column === undefined ? `df[${index}]` : `df.${shorten(column)}[${index}]`;
  // Its type was looked at before.
  if (member === "id")
    return { field: place, detail: `${joinKey} is null`, repair: "send its id, or leave the row out" };
  if (code === "event_time_invalid") {
    const given = shorten(String(columns[TIME][index]));
    const told = `${TIME} is when the values were true, from 2000 on, given "${given}"`;
    return { field: place, detail: told, repair: "send ISO 8601, as 2026-01-31T10:00:00Z" };
  }
  return { field: place, detail: detail.replace("event_time_ms", TIME), repair };
}

function textOf(body: JsonObject, field: string): string {
  const value = body[field];
  if (typeof value === "string") return value;
  const given = value === undefined ? "nothing" : typeName(value);
  throw new Problem(value === undefined ? "field_missing" : "wrong_type", `${field} is a string, given ${given}`, {
    field,
    repair: `send the view's name: "${field}": "profile"`,
  });
}
