/** Turns definitions into the plan, refusing what could not be computed exactly. */
import { isObject } from "./accumulators.ts";
import type {
  AggregationDefinition,
  Definitions,
  FeatureServiceDefinition,
  FeatureViewDefinition,
  StreamDefinition,
} from "./definition.ts";
import { formatDuration, parseDuration } from "./duration.ts";
import { DefinitionError } from "./errors.ts";
import type { Hash64 } from "./event.ts";
import { OPERATORS } from "./operators.ts";
import type {
  Channel,
  Contract,
  Feature,
  FieldType,
  Group,
  Level,
  Plan,
  Slot,
  SlotKind,
  View,
  Window,
} from "./plan.ts";
import { fieldsOf } from "./where.ts";
import { levelsOfWindow } from "./window.ts";

/**
 * Ids that stored bytes carry, by what they mean. Committed beside the definitions; only ever grows, so that an id never
 * means two things.
 */
export interface Lock {
  readonly version: 1;
  readonly groups: Record<string, GroupLock>;
}
interface GroupLock {
  id: number;
  levels: Record<string, number>;
  slots: Record<string, number>;
}
export const EMPTY_LOCK: Lock = { version: 1, groups: {} };

/** First id of each kind's class: 64 each; tiles tell a cell's size from its class, even of a slot they don't know. */
export const CELL_CLASSES = { count: 0, min: 64, max: 64, sum: 128, squares: 192 } as const;
const CLASS_SIZE = 64;
/** Presence of channels travels as one 32-bit mask. */
const MAX_CHANNELS = 32;
const LADDER = ["5m", "1h", "1d"].map((text) => parseDuration(text));
const NAME = /^[a-z][a-z0-9_]{0,62}$/;
/** Silent keys outlive their last window by a day, so that a slow reader or repair still finds them. */
const EXPIRY_MARGIN_MS = 86_400_000;

const refuse = (code: string, message: string, repair: string, field?: string): never => {
  throw new DefinitionError(code, `${message}; ${repair}`, { repair, field });
};

/** @throws DefinitionError with rule, given value and repair */
export function compile(
  definitions: Definitions,
  contracts: Readonly<Record<string, Contract>>,
  lock: Lock,
  hash64: Hash64,
): { plan: Plan; lock: Lock } {
  unique("entity", definitions.entities);
  unique("stream", definitions.streams);
  unique("feature view", definitions.views);
  unique("feature service", definitions.services);
  const streams = definitions.streams.map((stream) => compileStream(stream, contracts));
  const nextLock: Lock = structuredClone(lock) as Lock;
  const groups: Group[] = [];
  const views: View[] = [];
  const names = [...new Set(definitions.views.map(({ entity, source }) => `${entity.name}:${source.name}`))];
  for (const name of names) {
    const members = definitions.views.filter(({ entity, source }) => `${entity.name}:${source.name}` === name);
    const [{ entity, source }] = members;
    if (!definitions.entities.some(({ name: known }) => known === entity.name)) {
      refuse("entity_unknown", `view ${members[0].name} uses entity ${entity.name}`, "list it in entities");
    }
    const stream = streams.find(({ name: known }) => known === source.name);
    if (!stream) {
      throw refuse("stream_unknown", `view ${members[0].name} reads stream ${source.name}`, "list it in streams");
    }
    checkField(`view ${members[0].name}`, entity.joinKey, stream.fields, ["string", "long"]);
    const built = buildGroup(name, members, stream, groups.length, nextLock);
    groups.push(built.group);
    views.push(...built.views);
  }
  views.sort(
    (a, b) =>
      definitions.views.findIndex(({ name }) => name === a.name) -
      definitions.views.findIndex(({ name }) => name === b.name),
  );
  const body = {
    version: 1 as const,
    entities: definitions.entities.map(({ name, joinKey, description }) => ({ name, joinKey, description })),
    streams,
    groups,
    views,
    services: definitions.services.map((service) => compileService(service, views)),
  };
  const layout = groups.map(({ id, name, baseMs, levels, channels, slots, expireMs }) => ({
    id,
    name,
    baseMs,
    levels,
    channels,
    slots,
    expireMs,
  }));
  return {
    plan: { ...body, hash: hash64(canonicalJson(body)), layoutHash: hash64(canonicalJson(layout)) },
    lock: nextLock,
  };
}

/** JSON with sorted keys and no spaces: equal values give equal text. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${canonicalJson(v)}`).join(",")}}`;
}

function unique(what: string, items: readonly { readonly name: string }[]): void {
  const seen = new Set<string>();
  for (const { name } of items) {
    if (!NAME.test(name)) {
      refuse("name_invalid", `a name is 1 to 63 of a-z, 0-9 and _, given "${name}"`, `rename the ${what}`);
    }
    if (seen.has(name)) refuse("name_taken", `two of ${what} are named ${name}`, "rename one of them");
    seen.add(name);
  }
}

function compileStream(
  definition: StreamDefinition,
  contracts: Readonly<Record<string, Contract>>,
): Plan["streams"][0] {
  const contract = contracts[definition.schema];
  if (!contract) {
    throw refuse(
      "contract_unknown",
      `stream ${definition.name} has contract ${definition.schema}`,
      `use one of ${Object.keys(contracts).join(", ")}, or add schemas/${definition.schema}.avsc`,
    );
  }
  const where = `stream ${definition.name}`;
  checkField(where, "tenant", contract.fields, ["string"]);
  checkField(where, definition.eventId, contract.fields, ["string", "long"]);
  checkField(where, definition.eventTime, contract.fields, ["long"]);
  checkField(where, definition.partitionKey, contract.fields, ["string", "long"]);
  const baseMs = parseDuration(definition.base, "base");
  if (LADDER.every((step) => step % baseMs !== 0)) {
    refuse("base_invalid", `base ${definition.base} of ${where} divides no day`, "use 1s, 10s, 1m or 5m", "base");
  }
  return {
    name: definition.name,
    contract: definition.schema,
    fields: contract.fields,
    eventId: definition.eventId,
    eventTime: definition.eventTime,
    partitionKey: definition.partitionKey,
    allowedLatenessMs: parseDuration(definition.allowedLateness, "allowedLateness"),
    baseMs,
  };
}

function checkField(where: string, field: string, fields: Contract["fields"], types: readonly FieldType[]): FieldType {
  const found = fields[field];
  if (!found) {
    throw refuse(
      "field_unknown",
      `${where} uses field ${field}`,
      `use one of ${Object.keys(fields).join(", ")}`,
      field,
    );
  }
  if (!types.includes(found.type)) {
    refuse(
      "field_type",
      `${where} needs ${types.join(" or ")}, field ${field} is ${found.type}`,
      "use another field",
      field,
    );
  }
  return found.type;
}

interface Draft {
  readonly view: FeatureViewDefinition;
  readonly name: string;
  readonly aggregation: AggregationDefinition;
  readonly window: Window;
  readonly slots: readonly { key: string; kind: SlotKind; channel: number }[];
  readonly type: FieldType | null;
}

function buildGroup(
  name: string,
  members: readonly FeatureViewDefinition[],
  stream: Plan["streams"][0],
  position: number,
  lock: Lock,
): { group: Group; views: View[] } {
  const channels: Channel[] = [];
  const drafts = members.flatMap((view) => {
    const found = Object.entries(view.features).flatMap(([key, aggregation]) =>
      draftFeatures(view, key, aggregation, stream, channels),
    );
    unique(`${view.name}'s features`, found);
    return found;
  });
  if (channels.length > MAX_CHANNELS) {
    refuse(
      "too_many_inputs",
      `${name} has ${channels.length} distinct inputs (field, where, scale), the limit is ${MAX_CHANNELS}`,
      "share conditions between features or split the stream",
    );
  }
  lock.groups[name] ??= { id: Object.keys(lock.groups).length + 1, levels: {}, slots: {} };
  const locked = lock.groups[name];
  const sizes = levelSizes(drafts, stream.baseMs);
  const levels: Level[] = sizes.map((sizeMs) => ({
    id: (locked.levels[sizeMs] ??= Object.keys(locked.levels).length),
    sizeMs,
    parts: sizes.reduce((best, size, index) => (size < sizeMs && sizeMs % size === 0 ? index : best), -1),
    retainMs: 0,
  }));
  for (const { window } of drafts) {
    if (window.kind === "lifetime") continue;
    for (const index of levelsOfWindow(levels, window)) {
      const retainMs = window.sizeMs + window.delayMs + window.hopMs;
      if (retainMs > levels[index].retainMs) levels[index] = { ...levels[index], retainMs };
    }
  }
  const slots = buildSlots(drafts, levels, locked, name);
  const indexOf = new Map(slots.map((slot, index) => [slot.key, index]));
  const reaches = members.map((view) => reachOf(drafts.filter((draft) => draft.view === view)));
  const views = members.map((view, index): View => {
    const own = drafts.filter((draft) => draft.view === view);
    const ttlMs = parseDuration(view.ttl, "ttl");
    const longest = Math.max(
      0,
      ...own.map(({ window }) => (window.kind === "lifetime" ? 0 : window.sizeMs + window.delayMs)),
    );
    if (ttlMs < longest) {
      refuse(
        "ttl_too_short",
        `ttl ${view.ttl} of view ${view.name} is shorter than its longest window with delay, ${formatDuration(longest)}`,
        `use a ttl of at least ${formatDuration(longest)}`,
        "ttl",
      );
    }
    return {
      name: view.name,
      entity: view.entity.name,
      stream: stream.name,
      group: position,
      ttlMs,
      reachMs: reaches[index],
      owner: view.owner,
      description: view.description,
      tags: view.tags,
      features: own.map((draft) => toFeature(draft, indexOf)),
    };
  });
  const hasLifetime = slots.some(({ lifetime }) => lifetime);
  const group: Group = {
    id: locked.id,
    name,
    entity: members[0].entity.name,
    stream: stream.name,
    baseMs: stream.baseMs,
    levels,
    absorbing: levels.length - 1,
    channels,
    slots: slots.map(({ key: _, ...slot }) => slot),
    hasLifetime,
    expireMs: hasLifetime ? null : Math.max(...reaches.map((reach) => reach ?? 0)) + EXPIRY_MARGIN_MS,
  };
  return { group, views };
}

const reachOf = (drafts: readonly Draft[]): number | null =>
  drafts.reduce<number | null>(
    (reach, { window }) =>
      reach === null || window.kind === "lifetime" ? null : Math.max(reach, window.sizeMs + window.delayMs),
    0,
  );

function draftFeatures(
  view: FeatureViewDefinition,
  key: string,
  aggregation: AggregationDefinition,
  stream: Plan["streams"][0],
  channels: Channel[],
): Draft[] {
  const where = `feature ${view.name}:${key}`;
  if (!NAME.test(key))
    refuse("name_invalid", `a name is 1 to 63 of a-z, 0-9 and _, given "${key}"`, "rename the feature");
  const operator = OPERATORS[aggregation.operator];
  const condition = aggregation.where?.where ?? null;
  for (const field of condition ? fieldsOf(condition) : []) {
    checkField(where, field, stream.fields, ["string", "double", "long", "boolean"]);
  }
  const { scale } = aggregation;
  if (operator.scale === "required" && !(Number.isInteger(scale) && scale! >= 0 && scale! <= 9)) {
    refuse(
      "scale_required",
      `${aggregation.operator} of ${aggregation.field} in ${where} adds up exactly only in minor units, given scale ${scale}`,
      "write { scale: 2 } for amounts with two decimal places (0 to 9)",
      "scale",
    );
  }
  const field = aggregation.operator === "timeSinceLast" ? stream.eventTime : aggregation.field;
  const accepted: FieldType[] =
    aggregation.operator === "first" || aggregation.operator === "last"
      ? ["string", "double", "long", "boolean"]
      : aggregation.operator === "approxDistinct"
        ? ["string", "long", "boolean"]
        : ["double", "long"];
  const type = field === null ? null : checkField(where, field, stream.fields, accepted);
  const channel: Channel = { input: { field, where: condition, scale }, type };
  const text = canonicalJson(channel.input);
  let index = channels.findIndex(({ input }) => canonicalJson(input) === text);
  if (index < 0) index = channels.push(channel) - 1;
  const slots = operator.slots.map((kind) => ({ key: `${kind}${text}`, kind, channel: index }));
  const windows = aggregation.windows.length === 0 ? ["lifetime" as const] : aggregation.windows;
  return windows.map((size): Draft => {
    const suffix = aggregation.windows.length === 0 ? "" : `_${size}`;
    const window =
      size === "lifetime" ? ({ kind: "lifetime" } as const) : hopping(where, size, aggregation, stream.baseMs);
    if (size === "lifetime" && aggregation.delay !== null) {
      refuse("delay_invalid", `${where} delays a lifetime window`, "delay hopping windows only", "delay");
    }
    return { view, name: `${key}${suffix}`, aggregation, window, slots, type };
  });
}

/** DESIGN §5: W <= 10m 1m; < 12h 5m; < 12d 1h; else 1d; never finer than the base. */
function defaultHop(sizeMs: number, baseMs: number): number {
  const hop =
    sizeMs <= 600_000 ? 60_000 : sizeMs < 43_200_000 ? 300_000 : sizeMs < 1_036_800_000 ? 3_600_000 : 86_400_000;
  return Math.max(hop, baseMs);
}

function hopping(where: string, size: string, { hop, delay }: AggregationDefinition, baseMs: number): Window {
  const sizeMs = parseDuration(size, "over");
  const hopMs = hop === null ? defaultHop(sizeMs, baseMs) : parseDuration(hop, "every");
  const delayMs = delay === null ? 0 : parseDuration(delay, "delayedBy");
  if (hopMs % baseMs !== 0) {
    const near = Math.max(1, Math.round(hopMs / baseMs)) * baseMs;
    refuse(
      "hop_not_multiple_of_base",
      `hop ${formatDuration(hopMs)} of ${where} is no multiple of the stream's base ${formatDuration(baseMs)}`,
      `use ${formatDuration(near)}`,
      "every",
    );
  }
  if (sizeMs % hopMs !== 0) {
    refuse(
      "hop_does_not_divide",
      `hop ${formatDuration(hopMs)} does not divide window ${formatDuration(sizeMs)}`,
      `use ${suggestHops(sizeMs, hopMs, baseMs)}`,
      "every",
    );
  }
  if (delayMs % hopMs !== 0) {
    refuse(
      "delay_not_multiple_of_hop",
      `delay ${formatDuration(delayMs)} of ${where} is no multiple of hop ${formatDuration(hopMs)}`,
      `use ${formatDuration(Math.ceil(delayMs / hopMs) * hopMs)}`,
      "delayedBy",
    );
  }
  return { kind: "hopping", sizeMs, hopMs, delayMs };
}

/** The two next smaller and the next larger hop that divide the window: `5m, 6m or 10m`. */
function suggestHops(sizeMs: number, hopMs: number, baseMs: number): string {
  const divides = (ms: number) => sizeMs % ms === 0 && ms % baseMs === 0;
  const smaller: number[] = [];
  for (let ms = Math.floor(hopMs / baseMs) * baseMs; ms >= baseMs && smaller.length < 2; ms -= baseMs) {
    if (divides(ms)) smaller.unshift(ms);
  }
  const larger: number[] = [];
  for (let ms = (Math.floor(hopMs / baseMs) + 1) * baseMs; ms <= sizeMs && larger.length < 1; ms += baseMs) {
    if (divides(ms)) larger.push(ms);
  }
  const all = [...smaller, ...larger].map(formatDuration);
  if (all.length === 0) return `a window that is a multiple of the base ${formatDuration(baseMs)}`;
  return all.length === 1 ? all[0] : `${all.slice(0, -1).join(", ")} or ${all[all.length - 1]}`;
}

/** The base, every hop, and those steps of the ladder that shorten reads or folding. Ascending. */
function levelSizes(drafts: readonly Draft[], baseMs: number): number[] {
  const sizes = new Set([baseMs]);
  for (const { window } of drafts) {
    if (window.kind === "hopping") sizes.add(window.hopMs);
    for (const step of LADDER) {
      if (step % baseMs !== 0) continue;
      const between = window.kind === "hopping" && window.hopMs % step === 0;
      const above = window.kind === "hopping" && step % window.hopMs === 0 && 2 * step <= window.sizeMs;
      if (window.kind === "lifetime" || between || above) sizes.add(step);
    }
  }
  return [...sizes].sort((a, b) => a - b);
}

function buildSlots(
  drafts: readonly Draft[],
  levels: readonly Level[],
  locked: GroupLock,
  group: string,
): (Slot & { key: string })[] {
  const wanted = new Map<string, { kind: SlotKind; channel: number; levels: Set<number>; lifetime: boolean }>();
  for (const draft of drafts) {
    for (const { key, kind, channel } of draft.slots) {
      const slot = wanted.get(key) ?? { kind, channel, levels: new Set([0]), lifetime: false };
      for (const index of levelsOfWindow(levels, draft.window)) slot.levels.add(index);
      slot.lifetime ||= draft.window.kind === "lifetime";
      wanted.set(key, slot);
    }
  }
  // A level is folded from its parts, so whatever is kept at a level is kept at its parts too.
  for (const { levels: kept } of wanted.values()) {
    for (let index = levels.length - 1; index > 0; index--) if (kept.has(index)) kept.add(levels[index].parts);
  }
  const slots = [...wanted].map(([key, { levels: kept, ...slot }]) => ({
    ...slot,
    key,
    id: lockedSlot(locked, key, slot.kind, group),
    levels: [...kept].sort((a, b) => a - b),
  }));
  return slots.sort((a, b) => Number(isObject(a.kind)) - Number(isObject(b.kind)) || a.id - b.id);
}

function lockedSlot(locked: GroupLock, key: string, kind: SlotKind, group: string): number {
  if (key in locked.slots) return locked.slots[key];
  const object = isObject(kind);
  const start = object ? 0 : CELL_CLASSES[kind as keyof typeof CELL_CLASSES];
  const taken = Object.entries(locked.slots)
    .filter(([other]) => isObject(kindOfKey(other)) === object)
    .map(([, id]) => id);
  for (let id = start; id < start + (object ? 256 : CLASS_SIZE); id++) {
    if (!taken.includes(id)) {
      locked.slots[key] = id;
      return id;
    }
  }
  throw refuse(
    "too_many_slots",
    `${group} has used every slot of kind ${kind} (${CLASS_SIZE} over its life)`,
    "put the new features on a stream of their own",
  );
}
const kindOfKey = (key: string): SlotKind => key.slice(0, key.indexOf("{")) as SlotKind;

function toFeature(draft: Draft, indexOf: ReadonlyMap<string, number>): Feature {
  const { aggregation, type } = draft;
  const byType = { string: "string", boolean: "boolean", long: "int64", double: "double", map: "string" } as const;
  const keepsType = ["first", "last", "min", "max"].includes(aggregation.operator);
  const counts = aggregation.operator === "count" || aggregation.operator === "approxDistinct";
  return {
    name: `${draft.view.name}:${draft.name}`,
    view: draft.view.name,
    operator: aggregation.operator,
    window: draft.window,
    slots: draft.slots.map(({ key }) => indexOf.get(key)!),
    scale: aggregation.scale,
    sample: aggregation.sample,
    dtype: counts ? "int64" : keepsType && type !== null ? byType[type] : "double",
    description: aggregation.description,
  };
}

function compileService(service: FeatureServiceDefinition, views: readonly View[]): Plan["services"][0] {
  const chosen = service.features.flatMap((item) => {
    const name = item.kind === "selection" ? item.view.name : item.name;
    const view = views.find((candidate) => candidate.name === name);
    if (!view) throw refuse("view_unknown", `service ${service.name} uses view ${name}`, "list it in views");
    const all = view.features.map((feature) => feature.name);
    if (item.kind !== "selection") return all;
    return item.features.map((feature) => {
      const full = `${name}:${feature}`;
      if (!all.includes(full)) {
        refuse("feature_unknown", `service ${service.name} uses ${full}`, `use one of ${all.join(", ")}`);
      }
      return full;
    });
  });
  for (const name of Object.keys(service.defaults)) {
    if (!chosen.includes(name)) {
      refuse("default_unknown", `service ${service.name} has a default for ${name}`, "name one of its features");
    }
  }
  const entities = [...new Set(chosen.map((name) => views.find((view) => name.startsWith(`${view.name}:`))!.entity))];
  return {
    name: service.name,
    features: chosen,
    onDemand: Object.keys(service.onDemand),
    request: service.request,
    entities,
    task: service.task,
    fallback: service.fallback?.version ?? null,
  };
}
