/** Which entities the store holds, and what its primaries' clocks say. */
import type { Plan } from "../../core/plan.ts";
import type { ValkeyConnection } from "./connection.ts";
import { parseEntityKey, parsePushedKey } from "./layout.ts";

const SCAN_COUNT = 1_000;

/** Ids by `tenant/entity`, of entities of the plan that have a hash of tiles, or of what was pushed. Walks through all keys. */
export async function storedIds(connection: ValkeyConnection, plan: Plan): Promise<Map<string, Set<string>>> {
  const known = new Set(plan.groups.map(({ entity, stream }) => `${entity}/${stream}`));
  const ids = new Map<string, Set<string>>();
  for (const node of await connection.primaries()) {
    let cursor = "0";
    do {
      const [next, keys] = await node.scanBuffer(cursor, "COUNT", SCAN_COUNT, "TYPE", "hash");
      cursor = next.toString();
      for (const key of keys) {
        const tiles = parseEntityKey(key);
        const parts = tiles ?? parsePushedKey(key);
        if (parts === null || (tiles !== null && !known.has(`${tiles.entity}/${tiles.stream}`))) continue;
        const place = `${parts.tenant}/${parts.entity}`;
        ids.set(place, (ids.get(place) ?? new Set()).add(parts.id));
      }
    } while (cursor !== "0");
  }
  return ids;
}

/** In ms, rounded down. */
export async function primaryClocks(connection: ValkeyConnection): Promise<number[]> {
  const clocks = await Promise.all((await connection.primaries()).map((node) => node.time()));
  return clocks.map(([seconds, micros]) => Math.floor(Number(seconds) * 1_000 + Number(micros) / 1_000));
}
