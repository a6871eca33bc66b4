/** What every broker does, whichever it is. */
import { afterAll, describe, expect, test } from "vitest";
import type { Broker, ListedShard, OutgoingRecord, Publisher, ShardRecord } from "../../../adapters/broker/broker.ts";

export interface BrokerWorld {
  /** Makes a stream of its own. @returns its name at the broker */
  readonly create: (shards: number) => Promise<string>;
  readonly broker: Broker;
  /**
   * @param streamNames plan name to the broker's
   * @param budgetMs @default long enough for a machine that is busy
   */
  readonly publisher: (streamNames: Readonly<Record<string, string>>, budgetMs?: number) => Publisher;
  /** One whose broker does not answer, and which tries but once. */
  readonly unreachable: (streamNames: Readonly<Record<string, string>>) => Publisher;
}

const numbered = (count: number, name = "r") => Array.from({ length: count }, (_, i) => `${name}${i}`);
const outgoing = (names: readonly string[]): OutgoingRecord[] =>
  names.map((name) => ({ data: Buffer.from(name), partitionKey: `key-${name}` }));
const nameOf = ({ data }: ShardRecord): string => Buffer.from(data).toString();

export function describeBroker(open: () => BrokerWorld): void {
  const read = async (stream: string, shard: string, from: number | string | null): Promise<ShardRecord[]> => {
    const found: ShardRecord[] = [];
    for await (const batch of open().broker.readShard(stream, shard, from)) found.push(...batch);
    return found;
  };
  const readAll = async (stream: string, shards: readonly ListedShard[], from: number | null) =>
    Promise.all(shards.map(({ id }) => read(stream, id, from)));
  afterAll(() => open().broker.close());

  describe("any broker", () => {
    test("lists a new stream's shards, open, with all that ever came", async () => {
      const beforeMs = Date.now();
      const stream = await open().create(3);
      const { shards, createdAtMs, heldSinceMs } = await open().broker.list(stream);
      expect(new Set(shards.map(({ id }) => id)).size).toBe(3);
      expect(shards.map(({ parents, closed }) => ({ parents, closed }))).toEqual(
        Array.from({ length: 3 }, () => ({ parents: [], closed: false })),
      );
      // An emulator's clock may run in seconds.
      expect(createdAtMs).toBeGreaterThan(beforeMs - 5_000);
      expect(createdAtMs).toBeLessThan(Date.now() + 5_000);
      expect(heldSinceMs).toBe(Number.NEGATIVE_INFINITY);
    });

    test("puts a record onto every shard", async () => {
      const stream = await open().create(3);
      const { shards } = await open().broker.list(stream);
      await open().broker.putOnEveryShard(stream, shards, Buffer.from("beat"));
      const found = await readAll(stream, shards, null);
      expect(found.map((records) => records.map(nameOf))).toEqual([["beat"], ["beat"], ["beat"]]);
    });

    test("keeps what is published, once each, with arrivals of its own, in the order of its sequences", async () => {
      const stream = await open().create(2);
      const { shards } = await open().broker.list(stream);
      const names = numbered(700);
      const beforeMs = Date.now();
      const outcomes = await open().publisher({ tx: stream }).publish("tx", outgoing(names));
      const afterMs = Date.now();
      expect(outcomes).toEqual(names.map(() => "queued"));
      const found = await readAll(stream, shards, null);
      expect(found.flat().map(nameOf).sort()).toEqual([...names].sort());
      for (const records of found) {
        expect(records.length).toBeGreaterThan(0);
        for (const { arrivalMs } of records) {
          // Clocks of another process on this machine.
          expect(arrivalMs).toBeGreaterThanOrEqual(beforeMs - 1_000);
          expect(arrivalMs).toBeLessThanOrEqual(afterMs + 1_000);
        }
        const sequences = records.map(({ sequence }) => BigInt(sequence));
        expect(sequences).toEqual([...sequences].sort((a, b) => (a < b ? -1 : 1)));
      }
    });

    test("puts one key on one shard, whoever publishes it", async () => {
      const stream = await open().create(4);
      const { shards } = await open().broker.list(stream);
      const same = (name: string) => [{ data: Buffer.from(name), partitionKey: "ünique" }];
      for (const name of numbered(4)) await open().publisher({ tx: stream }).publish("tx", same(name));
      const found = await readAll(stream, shards, null);
      expect(found.map(({ length }) => length).sort()).toEqual([0, 0, 0, 4]);
    });

    test("is read from an arrival on, or behind a sequence", async () => {
      const stream = await open().create(1);
      const [{ id }] = (await open().broker.list(stream)).shards;
      const publisher = open().publisher({ tx: stream });
      await publisher.publish("tx", outgoing(numbered(5, "old")));
      await new Promise((resolve) => setTimeout(resolve, 50));
      const fromMs = Date.now();
      await new Promise((resolve) => setTimeout(resolve, 50));
      await publisher.publish("tx", outgoing(numbered(5, "new")));
      expect((await read(stream, id, fromMs)).map(nameOf)).toEqual(numbered(5, "new"));
      const all = await read(stream, id, null);
      expect(all.map(nameOf)).toEqual([...numbered(5, "old"), ...numbered(5, "new")]);
      expect((await read(stream, id, all[6].sequence)).map(nameOf)).toEqual(["new2", "new3", "new4"]);
      expect(await read(stream, id, all[9].sequence)).toEqual([]);
      expect(await read(stream, id, Date.now() + 60_000)).toEqual([]);
    });

    test("of a shard without records nothing is read", async () => {
      const stream = await open().create(1);
      const [{ id }] = (await open().broker.list(stream)).shards;
      expect(await read(stream, id, null)).toEqual([]);
      expect(await read(stream, id, Date.now() - 60_000)).toEqual([]);
    });

    test("gives batches that fit an invocation of 6 MB", async () => {
      const stream = await open().create(1);
      const [{ id }] = (await open().broker.list(stream)).shards;
      const publisher = open().publisher({ tx: stream });
      const large = Array.from({ length: 9 }, (_, i) => ({ data: Buffer.alloc(900_000, i), partitionKey: "k" }));
      expect(await publisher.publish("tx", large)).toEqual(large.map(() => "queued"));
      const sizes: number[] = [];
      let count = 0;
      for await (const batch of open().broker.readShard(stream, id, null)) {
        count += batch.length;
        sizes.push(JSON.stringify(batch.map(({ data }) => Buffer.from(data).toString("base64"))).length);
      }
      expect(count).toBe(9);
      expect(sizes.length).toBeGreaterThan(1);
      expect(Math.max(...sizes)).toBeLessThan(6_000_000);
    });

    test("tells what waits behind an arrival", async () => {
      const stream = await open().create(2);
      const { broker } = open();
      expect(await broker.waitingAfter(stream, null)).toEqual({ records: 0, oldestMs: Number.POSITIVE_INFINITY });
      await open()
        .publisher({ tx: stream })
        .publish("tx", outgoing(numbered(20)));
      const { shards } = await broker.list(stream);
      const arrivals = (await readAll(stream, shards, null)).flat().map(({ arrivalMs }) => arrivalMs);
      const oldestMs = Math.min(...arrivals);
      expect(await broker.waitingAfter(stream, null)).toEqual({ records: 20, oldestMs });
      expect(await broker.waitingAfter(stream, oldestMs - 1)).toEqual({ records: 20, oldestMs });
      expect(await broker.waitingAfter(stream, Math.max(...arrivals))).toEqual({
        ...{ records: 0, oldestMs: Number.POSITIVE_INFINITY },
      });
    });

    test("that is not there is no error but an outcome, as is a stream that is not there", async () => {
      const records = outgoing(numbered(2));
      const away = ["unavailable", "unavailable"];
      expect(await open().unreachable({ tx: "any" }).publish("tx", records)).toEqual(away);
      expect(await open().publisher({}).publish("tx", records)).toEqual(away);
      expect(await open().publisher({ tx: "never-made" }, 0).publish("tx", records)).toEqual(away);
    });
  });
}
