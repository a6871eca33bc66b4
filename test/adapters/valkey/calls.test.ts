import fc from "fast-check";
import { expect, it } from "vitest";
import { Batch } from "../../../adapters/valkey/calls.ts";
import type { EntityUpdate, PreparedEvent } from "../../../adapters/valkey/record.ts";
import { runs } from "../../support/runs.ts";

/** Records hold their own number here, and differ in length. */
function update(bucket: number, key: number, baseIndex: number, number: number): EntityUpdate {
  const bytes = Buffer.alloc(40, 0xee);
  bytes.writeUInt32LE(number, 8);
  const id = `ö${key}`;
  return {
    entity: "card",
    id,
    groupId: 7,
    bucket,
    key: `{${bucket}}${id}`,
    baseIndex,
    bytes,
    start: 8,
    length: 4 + (number % 3),
  };
}

/** Arguments of an encoded call: bulk strings one after another. */
function args({ bytes, count }: { bytes: Buffer; count: number }): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf("\r\n", at);
    const length = Number(bytes.toString("latin1", at + 1, end));
    found.push(bytes.subarray(end + 2, end + 2 + length));
    at = end + 4 + length;
  }
  expect(found).toHaveLength(count);
  return found;
}

/** Numbers of the records in a blob, by base tile. */
function tilesOf(blob: Buffer): { baseIndex: number; numbers: number[] }[] {
  expect(blob[0]).toBe(7);
  const tiles: { baseIndex: number; numbers: number[] }[] = [];
  for (let at = 1; at < blob.length; ) {
    const [baseIndex, count, length] = [blob.readUInt32LE(at), blob.readUInt16LE(at + 4), blob.readUInt32LE(at + 6)];
    const end = at + 10 + length;
    const numbers: number[] = [];
    for (at += 10; at < end; ) {
      const number = blob.readUInt32LE(at);
      numbers.push(number);
      at += 4 + (number % 3);
    }
    expect(at).toBe(end);
    expect(numbers).toHaveLength(count);
    tiles.push({ baseIndex, numbers });
  }
  return tiles;
}

const target = fc.record({ bucket: fc.nat(2), key: fc.nat(260), tile: fc.nat(3) });

it("carries every update once, within the bounds of a call, each tile's records together and in order", () => {
  fc.assert(
    fc.property(fc.array(fc.array(target, { maxLength: 3 }), { maxLength: 2_000, size: "max" }), (targets) => {
      let number = 0;
      const events = targets.map(
        (updates): PreparedEvent => ({
          identity: "0".repeat(16),
          updates: updates.map(({ bucket, key, tile }) => update(bucket, key, 1_000 - tile, number++)),
        }),
      );
      const batch = new Batch(events, 0, events.length);
      const seen = new Map<number, string>();
      for (const call of batch.calls) {
        const all = args(batch.encode(call, "{0}ctl", Buffer.from("header"), "apply"));
        expect(call.size).toBeLessThanOrEqual(500);
        expect(call.keys.length).toBeLessThanOrEqual(100);
        expect(all[0].toString()).toBe(String(call.keys.length + 1));
        expect([all[1], all[call.keys.length + 2], all.at(-1)].map(String)).toEqual(["{0}ctl", "header", "apply"]);
        call.keys.forEach(({ key }, k) => {
          expect(all[2 + k].toString()).toBe(key);
          const tiles = tilesOf(all[3 + call.keys.length + k]);
          expect(new Set(tiles.map(({ baseIndex }) => baseIndex)).size).toBe(tiles.length);
          for (const { baseIndex, numbers } of tiles) {
            expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
            for (const n of numbers) {
              expect(seen.has(n)).toBe(false);
              seen.set(n, `${key}/${baseIndex}`);
            }
          }
          // The chain is in the order of the records as they were sent: outcomes come back in it.
          const chain: EntityUpdate[] = [];
          for (let u = call.keys[k].first; u >= 0; u = batch.next[u]) chain.push(batch.updates[u]);
          expect(chain.map(({ bytes }) => bytes.readUInt32LE(8))).toEqual(tiles.flatMap(({ numbers }) => numbers));
        });
      }
      const sent = events.flatMap(({ updates }) => updates.map(({ key, baseIndex }) => `${key}/${baseIndex}`));
      expect(sent.map((_, n) => seen.get(n))).toEqual(sent);
    }),
    { numRuns: runs(40) },
  );
});
