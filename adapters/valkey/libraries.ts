/**
 * Which of the store's function libraries are needed: this plan's, and the one before it, whose invocations may still run.
 * Others are deleted. Whoever calls one all the same is told that it is missing and loads it again, so this is never unsafe.
 */
import type { ValkeyConnection } from "./connection.ts";

/** One hash with the names of both, `current` and `previous`. */
const LIBRARIES_KEY = "freshet:libraries";

/**
 * @param current the library of the plan that is deployed, loaded already
 * @returns how many were deleted, over all primaries; 0 of a server without functions
 */
export async function dropOldLibraries(connection: ValkeyConnection, current: string): Promise<number> {
  const key = LIBRARIES_KEY;
  const [answer] = await connection.demand([{ key, name: "HMGET", args: [key, "current", "previous"] }]);
  let [last, previous] = (answer as (Buffer | null)[]).map((name) => name?.toString() ?? "");
  if (last !== current) {
    previous = last;
    await connection.demand([{ key, name: "HSET", args: [key, "current", current, "previous", previous] }]);
  }
  let dropped = 0;
  for (const node of await connection.primaries()) {
    const listed = await node.call("FUNCTION", "LIST", "LIBRARYNAME", "freshet_*").catch(() => []);
    for (const library of listed as unknown[][]) {
      const name = String(library[1 + library.findIndex((field) => String(field) === "library_name")]);
      if (name === current || name === previous) continue;
      // Another control run may have been faster.
      await node.call("FUNCTION", "DELETE", name).then(
        () => dropped++,
        () => {},
      );
    }
  }
  return dropped;
}
