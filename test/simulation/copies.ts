/** Snapshots and restores beside the specification: what is read of an entity as a whole, what is dropped, and what is written back. */
import type { Answer, Command } from "../../adapters/valkey/connection.ts";
import type { EraseCall } from "../../adapters/valkey/erase.ts";
import { decodeMeta, META_FIELD, parseEntityKey } from "../../adapters/valkey/layout.ts";
import type { SimulatedServer, Watched } from "./connection.ts";

/** Of an erased entity's hash, and of what was pushed: begins with the time before which nothing counts. */
const TOMBSTONES = ["e", "!"];

/** Sees commands that are no calls of the store's function, as they take effect. */
export function seeCopies(server: SimulatedServer, commands: readonly Command[], answers: readonly Answer[]): void {
  const { spec } = server;
  for (const [i, { name, key, args }] of commands.entries()) {
    const answer = answers[i];
    if (answer instanceof Error) continue;
    if (name === "HGETALL") {
      const items = answer as Buffer[];
      const at = items.findIndex((item, f) => f % 2 === 0 && META_FIELD.equals(item));
      if (at >= 0) spec.copied(key, decodeMeta(items[at + 1]).rev);
    } else if (name === "UNLINK") spec.forget(key);
    // Of the scripts only that which writes a snapshot's hashes has further keys.
    else if (name === "EVAL" && Number(args[1]) > 1 && answer === 1) loaded(server, args as (string | Buffer)[]);
  }
}

/** By the words of `BucketLoader.load`: control hash and keys, what must stand, and for each key its expiry and fields. */
function loaded(server: SimulatedServer, [, count, , ...rest]: readonly (string | Buffer)[]): void {
  const keys = rest.slice(0, Number(count) - 1).map(String);
  const blobs = rest.slice(keys.length + 2) as Buffer[];
  for (const [k, key] of keys.entries()) {
    const parts = parseEntityKey(Buffer.from(key));
    if (parts === null) continue;
    // After its expiry.
    const fields = blobs[k].subarray(8);
    const { rev, folded } = decodeMeta(fieldsOf(fields).get(META_FIELD.toString())!);
    const erasedMs = tombstoneOf(fields);
    const { tenant, entity, id } = parts;
    const groupId = server.groupOf(entity);
    if (!server.spec.load({ tenant, entity, id, groupId, key }, rev, folded, erasedMs))
      server.violated(`${key} is restored as of ${rev}, when nobody has read it`);
  }
}

/** What is seen of the calls of an erasure, as they take effect. */
export function watchErase(server: SimulatedServer, calls: readonly EraseCall[]): Watched {
  return {
    calls: calls.map((_, c) => c),
    throws: () => false,
    settled: (c) => {
      for (const { key, groupId } of calls[c].keys) {
        const parts = parseEntityKey(Buffer.from(key));
        if (parts === null) continue;
        const { tenant, entity, id } = parts;
        server.spec.erase({ tenant, entity, id, groupId, key }, calls[c].beforeMs);
      }
    },
  };
}

/** Time before which nothing of a hash counts any more; 0 where it isn't erased. */
export function tombstoneOf(fields: Buffer): number {
  const named = fieldsOf(fields);
  return TOMBSTONES.reduce((ms, name) => Math.max(ms, named.get(name)?.readDoubleLE(0) ?? 0), 0);
}

/** Names, each with its length in a byte, and values, each with its in four. */
function fieldsOf(blob: Buffer): Map<string, Buffer> {
  const fields = new Map<string, Buffer>();
  for (let at = 0; at < blob.length; ) {
    const value = at + 1 + blob[at];
    const end = value + 4 + blob.readUInt32LE(value);
    fields.set(blob.toString("latin1", at + 1, value), blob.subarray(value + 4, end));
    at = end;
  }
  return fields;
}
