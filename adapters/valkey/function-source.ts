/** Puts the plan's groups into the server-side function's source. */
import { readdirSync, readFileSync } from "node:fs";
import { isObject, keepsValues } from "../../core/operators/accumulators.ts";
import type { Group, Plan, Slot } from "../../core/plan.ts";
import { newestKept } from "../../core/tiles/tiles.ts";
import { levelsOfWindow, retentionOf } from "../../core/tiles/window.ts";
import { hash64 } from "../hash.ts";

const KINDS = { count: 1, sum: 2, squares: 3, min: 4, max: 5 } as const;

/** Replaced by the bundler with the joined text, since a function's asset holds no other files. */
declare const STORE_FUNCTION_SOURCE: string | undefined;

/** The files of `function/`, joined in the order of their names. `lib/constructs/function-code.ts` does the same. */
export function storeFunctionTemplate(): string {
  if (typeof STORE_FUNCTION_SOURCE === "string") return STORE_FUNCTION_SOURCE;
  const folder = new URL("./function/", import.meta.url);
  const files = readdirSync(folder).sort();
  return files.map((file) => readFileSync(new URL(file, folder), "utf8")).join("\n");
}

function lua(value: unknown): string {
  if (value === null || value === undefined) return "nil";
  if (Array.isArray(value)) return `{${value.map(lua).join(",")}}`;
  if (typeof value === "object") {
    const entries = Object.entries(value).filter(([, v]) => v !== null && v !== undefined);
    return `{${entries.map(([k, v]) => `[${/^\d+$/.test(k) ? k : JSON.stringify(k)}]=${lua(v)}`).join(",")}}`;
  }
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** What each channel must carry for the slots that it feeds; also decides how records are packed. */
export function channelNeeds(group: Group, channel: number) {
  const kinds = new Set(group.slots.filter((slot) => slot.channel === channel).map((slot) => slot.kind));
  return {
    value: kinds.has("sum") || kinds.has("min") || kinds.has("max"),
    squares: kinds.has("squares"),
    hash: kinds.has("distinct"),
    bucket: kinds.has("buckets"),
    object: [...kinds].some(keepsValues),
  };
}

/**
 * How long a slot's objects of a level are needed: until its own windows have passed them. Cells share a tile with those of
 * other slots and go with it, but an object is a field of its own, up to a kilobyte, and another slot's window may be a month.
 */
function objectRetention(plan: Plan, group: Group, slot: number, level: number): number {
  const windows = plan.views
    .filter((view) => plan.groups[view.group] === group)
    .flatMap(({ features }) => features.filter(({ slots }) => slots.includes(slot)).map(({ window }) => window));
  const reaching = windows.filter((window) =>
    levelsOfWindow(group.levels, group.slots[slot].levels, window).includes(level),
  );
  return Math.max(0, ...reaching.map((window) => (window.kind === "hopping" ? retentionOf(window) : 0)));
}

function groupSpec(plan: Plan, group: Group) {
  const cells = group.slots.filter(({ kind }) => !isObject(kind));
  const objects = group.slots.filter(({ kind }) => isObject(kind));
  const idSet = (slots: readonly Slot[]) => Object.fromEntries(slots.map(({ id }) => [id, true]));
  const objectSpec = ({ id, kind, channel, keep }: Slot) => ({ id, kind, channel: channel + 1, keep });
  return {
    id: group.id,
    name: group.name,
    base: group.baseMs,
    expire: group.expireMs,
    lifetime: group.hasLifetime,
    absorbing: group.absorbing + 1,
    newestKept: newestKept(group.baseMs),
    channels: group.channels.map((_, index) => channelNeeds(group, index)),
    cells: cells.map(({ id, kind, channel }) => ({
      id,
      kind: KINDS[kind as keyof typeof KINDS],
      channel: channel + 1,
    })),
    objects: objects.map(objectSpec),
    levels: group.levels.map(({ id, sizeMs, parts, retainMs }, index) => ({
      id,
      size: sizeMs,
      parts: parts + 1,
      retain: retainMs,
      kept: idSet(cells.filter((slot) => slot.levels.includes(index))),
      objects: objects
        .filter((slot) => slot.levels.includes(index))
        .map((slot) => ({
          ...objectSpec(slot),
          retain: objectRetention(plan, group, group.slots.indexOf(slot), index),
        })),
    })),
    lifetimeCells: idSet(cells.filter(({ lifetime }) => lifetime)),
    lifetimeObjects: objects.filter(({ lifetime }) => lifetime).map(objectSpec),
  };
}

const PROCEDURES = ["apply", "touch", "put", "mend", "push", "erase"] as const;
export type Procedure = (typeof PROCEDURES)[number];

export interface FunctionSource {
  readonly library: string;
  readonly apply: string;
  readonly touch: string;
  readonly put: string;
  readonly mend: string;
  readonly push: string;
  readonly erase: string;
  readonly source: string;
  /** The same as a script, for a server that refuses functions: the last argument is the procedure's name. */
  readonly script: string;
}

/** The library of a plan. Its names carry the hash of all that decides its behaviour, so old and new live side by side. */
export function functionSource(plan: Plan): FunctionSource {
  const spec = `local SPEC = ${lua(Object.fromEntries(plan.groups.map((group) => [group.id, groupSpec(plan, group)])))}`;
  const body = storeFunctionTemplate().replace(/^--@SPEC@$/m, () => spec);
  const hash = hash64(body);
  const library = `freshet_${hash}`;
  const names = Object.fromEntries(PROCEDURES.map((name) => [name, `freshet_${name}_${hash}`]));
  const register = PROCEDURES.map(
    (name) => `redis.register_function{function_name="${names[name]}", callback=${name}}`,
  ).join("\n");
  const dispatch = `return ({ ${PROCEDURES.map((name) => `${name} = ${name}`).join(", ")} })[table.remove(ARGV)](KEYS, ARGV)`;
  const ending = (text: string) => body.replace(/^--@REGISTER@$/m, () => text);
  const { apply, touch, put, mend, push, erase } = names as Record<Procedure, string>;
  return {
    library,
    apply,
    touch,
    put,
    mend,
    push,
    erase,
    source: `#!lua name=${library}\n${ending(register)}`,
    script: ending(dispatch),
  };
}
