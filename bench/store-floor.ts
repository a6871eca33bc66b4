/**
 * What is left of an apply's cost in the store when parts of its work are taken away: the same calls with the same arguments to
 * functions of the same names that do less, and the same reads and writes without any function.
 */
import { Batch } from "../adapters/valkey/calls.ts";
import type { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { functionSource } from "../adapters/valkey/function-source.ts";
import { tileField } from "../adapters/valkey/layout.ts";
import type { PreparedEvent } from "../adapters/valkey/record.ts";
import { aggregatePlan } from "./definitions.ts";

/** Values as long as those that an apply writes: meta, five aggregates' cells, two identities. */
const SIZES = { meta: 30, tile: 46, ids: 24 } as const;
const LEVEL = aggregatePlan.groups[0].levels[0].id;

/** Takes the calls and answers that all is applied. */
const IGNORE = "local function apply() return { 1, 0 } end";
/** Reads and writes what an apply does, without looking at a record or at what was read. */
const TOUCH = `local groups = {${aggregatePlan.groups.map(({ name }) => `"g:${name}"`).join(",")}}
local meta, tile, ids = ${Object.values(SIZES)
  .map((size) => `"${"x".repeat(size)}"`)
  .join(", ")}
local cells, identities = {}, {}
local function apply(keys, args)
  local call = redis.call
  call("HMGET", keys[1], "c", unpack(groups))
  call("TIME")
  for k = 2, #keys do
    local index = struct.unpack("<I4", args[k], 2)
    if not cells[index] then
      cells[index], identities[index] = struct.pack(">BI4", ${LEVEL}, index), struct.pack(">c1I4", "i", index)
    end
    call("HMGET", keys[k], "m", cells[index], identities[index])
    call("HSET", keys[k], "m", meta, cells[index], tile, identities[index], ids)
  end
  return { 1, 0 }
end`;

export type Floor = "ignore" | "touch";

/** A library under the name of the plan's own, for a server that has no other one. */
export function floorLibrary(floor: Floor): string {
  const { library, apply } = functionSource(aggregatePlan);
  const body = floor === "ignore" ? IGNORE : TOUCH;
  return `#!lua name=${library}\n${body}\nredis.register_function{function_name="${apply}", callback=apply}`;
}

/** HMGET and HSET of each entity of a batch, pipelined: neither in one step nor once. */
export async function touchWithoutFunction(
  connection: ValkeyConnection,
  events: readonly PreparedEvent[],
  batchSize: number,
): Promise<void> {
  const [meta, tile, ids] = Object.values(SIZES).map((size) => Buffer.alloc(size, "x"));
  for (let from = 0; from < events.length; from += batchSize) {
    const { calls, updates } = new Batch(events, from, Math.min(from + batchSize, events.length));
    const touched = calls.flatMap(({ keys }) =>
      keys.map(({ key, first }) => {
        const cells = tileField(LEVEL, updates[first].baseIndex);
        const identities = Buffer.concat([Buffer.from("i"), cells.subarray(1)]);
        return { key, cells, identities };
      }),
    );
    await connection.demand(
      touched.map(({ key, cells, identities }) => ({ key, name: "HMGET", args: [key, "m", cells, identities] })),
    );
    await connection.demand(
      touched.map(({ key, cells, identities }) => ({
        key,
        name: "HSET",
        args: [key, "m", meta, cells, tile, identities, ids],
      })),
    );
  }
}
