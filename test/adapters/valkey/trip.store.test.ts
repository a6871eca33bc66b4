import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

let valkey: TestValkey;
let connection: ValkeyConnection;
let admin: Redis;

beforeAll(async () => {
  valkey = await startValkey();
  admin = new Redis({ host: valkey.host, port: valkey.port, retryStrategy: () => 50 });
  admin.on("error", () => {});
});
afterEach(() => connection?.close());
afterAll(async () => {
  admin?.disconnect();
  await valkey?.stop();
});

const get = (key: string) => ({ key, name: "GET", args: [key] });
const set = (key: string, value: string | Buffer | number) => ({ key, name: "SET", args: [key, value] });

it("answers in order, with what the server refuses in its place", async () => {
  connection = new ValkeyConnection(valkey);
  const answers = await connection.run([
    set("a", "text ü"),
    set("b", Buffer.from([0, 13, 10, 255])),
    { key: "a", name: "HGET", args: ["a", "field"] },
    get("a"),
    get("b"),
    get("missing"),
    { key: "n", name: "INCRBY", args: ["n", 41] },
  ]);
  expect(answers[2]).toBeInstanceOf(Error);
  expect((answers[2] as Error).message).toMatch(/^WRONGTYPE/);
  expect(answers.toSpliced(2, 1)).toEqual([
    Buffer.from("OK"),
    Buffer.from("OK"),
    Buffer.from("text ü"),
    Buffer.from([0, 13, 10, 255]),
    null,
    41,
  ]);
});

it("gives up on a server that does not answer in time, and answers that come later belong to nobody else", async () => {
  connection = new ValkeyConnection({ ...valkey, host: valkey.host, port: valkey.port, timeoutMs: 500 });
  await connection.run([set("first", 1), set("second", 2)]);
  await admin.call("CLIENT", "PAUSE", "1500", "ALL");
  await expect(connection.run([get("first"), get("first")])).rejects.toThrow("the online store does not answer");
  // Answered when the pause is over.
  await admin.ping();
  expect(await connection.run([get("second")])).toEqual([Buffer.from("2")]);
});

it("gives each trip its own time, whatever else waits on the connection", async () => {
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port, timeoutMs: 400 });
  await connection.run([set("first", 1)]);
  const waitedMs = async (command: { key: string; name: string; args: (string | number)[] }) => {
    const startedAt = performance.now();
    await expect(connection.run([command])).rejects.toThrow("the online store does not answer");
    return performance.now() - startedAt;
  };
  // Nothing is answered behind it, ever.
  const trips = [waitedMs({ key: "nothing", name: "BLPOP", args: ["nothing", 0] })];
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    trips.push(waitedMs(get("first")));
  }
  // A busy machine makes them longer, never shorter: one that begins later is not ended with those before it.
  for (const waited of await Promise.all(trips)) expect(waited).toBeGreaterThan(399);
});

it("has patience with a long trip whose answers keep coming", async () => {
  // A client that waits at an empty list is answered before its next command is looked at.
  const waiting = { key: "l", name: "BLPOP", args: ["l", 0.05] };
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port, timeoutMs: 1_000 });
  const startedAt = performance.now();
  expect(await connection.run(Array.from({ length: 14 }, () => waiting))).toEqual(
    Array.from({ length: 14 }, () => null),
  );
  expect(performance.now() - startedAt).toBeGreaterThan(1_000);
});

it("says that the store does not answer when it dies between the command and its answer", async () => {
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port, waitMs: 5_000 });
  await connection.run([get("a")]);
  const cut = connection.run([set("a", 1), { key: "a", name: "BLPOP", args: ["nothing", 0] }, get("a")]);
  const refused = expect(cut).rejects.toThrow("the online store does not answer");
  await new Promise((resolve) => setTimeout(resolve, 50));
  await valkey.kill();
  await refused;
  await valkey.restart({ empty: true });
  expect(await connection.run([get("a")])).toEqual([null]);
});

/** How often the server has read from any socket, this question included. */
const readsOf = async (): Promise<number> => Number(/total_reads_processed:(\d+)/.exec(await admin.info("stats"))?.[1]);

it("sends what begins in one turn of the event loop with one write, which the server reads at once", async () => {
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port });
  await connection.run([set("k", "v")]);
  const before = await readsOf();
  // Forty callers that know nothing of each other, some of them a few promises later than others.
  const answers = await Promise.all(
    Array.from({ length: 40 }, async (_, caller) => {
      for (let i = 0; i < caller % 4; i++) await null;
      return connection.run([set(`k${caller}`, caller), get(`k${caller}`)]);
    }),
  );
  // One for the trips, one for the question.
  expect((await readsOf()) - before).toBe(2);
  expect(answers).toEqual(Array.from({ length: 40 }, (_, caller) => [Buffer.from("OK"), Buffer.from(String(caller))]));
});

it("does not hold back what is large, nor what waits with it", async () => {
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port });
  await connection.run([set("k", "v")]);
  const [node] = await connection.primaries();
  const { stream } = node as unknown as { stream: { writableLength: number; writableCorked: number } };
  const small = connection.run([set("small", 1)]);
  for (let i = 0; i < 3; i++) await null;
  expect(stream.writableCorked).toBe(1);
  const large = connection.run([set("large", Buffer.alloc(100_000))]);
  for (let i = 0; i < 3; i++) await null;
  expect(stream.writableCorked).toBe(0);
  expect(await Promise.all([small, large])).toEqual([[Buffer.from("OK")], [Buffer.from("OK")]]);
});

it("hands each answer to its taker in order, and keeps none of them", async () => {
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port });
  const value = Buffer.alloc(4_000, 7);
  const taken: [number, unknown][] = [];
  const commands = Array.from({ length: 60 }, (_, i) => ({
    ...set(`long${i}`, value),
    take: (answer: unknown) => void taken.push([i, answer]),
  }));
  expect(await connection.run([...commands, get("long59")])).toEqual([...commands.map(() => null), value]);
  expect(taken).toEqual(commands.map((_, i) => [i, Buffer.from("OK")]));
});

it("hands an error to no taker, and tells what a taker threw", async () => {
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port });
  const taken: unknown[] = [];
  const take = (answer: unknown) => void taken.push(answer);
  await connection.run([set("text", 1)]);
  const [refused] = await connection.run([{ key: "text", name: "HGET", args: ["text", "field"], take }]);
  expect(refused).toBeInstanceOf(Error);
  expect(taken).toEqual([]);
  const fault = new Error("cannot be read");
  const bad = () => {
    throw fault;
  };
  await expect(connection.run([get("text"), { ...get("text"), take: bad }, { ...get("text"), take }])).rejects.toBe(
    fault,
  );
  // The connection is none the worse.
  expect(await connection.run([get("text")])).toEqual([Buffer.from("1")]);
  expect(taken).toEqual([Buffer.from("1")]);
});
