/** A replay that is killed goes on where it was: the driver behind `freshet replay`, on a real broker, with a function that writes down what it is given. */
import { CreateStreamCommand, PutRecordsCommand, waitUntilStreamExists } from "@aws-sdk/client-kinesis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createKinesisClient } from "../../adapters/kinesis/client.ts";
import type { Functions } from "../../cli/invoke.ts";
import { type Replay, replayFromArchive, replayFromBroker } from "../../cli/replay.ts";
import { NOTHING_YET, type ReplayState, replayStateFile } from "../../cli/replay-state.ts";
import { startEmulator, type TestEmulator } from "../harness/emulator.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const STREAM = "replayed";
const credentials = { accessKeyId: "test", secretAccessKey: "test" };
let emulator: TestEmulator;
beforeAll(async () => {
  emulator = await startEmulator();
  const client = createKinesisClient({ endpoint: emulator.url, region: "us-east-1", credentials });
  await client.send(new CreateStreamCommand({ StreamName: STREAM, ShardCount: 2 }));
  await waitUntilStreamExists({ client, maxWaitTime: 30, minDelay: 0.05, maxDelay: 0.1 }, { StreamName: STREAM });
  // A batch of a replay has 5 MB: these are several of each shard.
  for (let at = 0; at < 40; at += 10) {
    const Records = Array.from({ length: 10 }, (_, i) => ({
      Data: Buffer.alloc(400_000, String(at + i).padStart(4, "0")),
      PartitionKey: `key-${at + i}`,
    }));
    await client.send(new PutRecordsCommand({ StreamName: STREAM, Records }));
  }
});
afterAll(() => emulator?.stop());
const home = process.env["FRESHET_HOME"];
afterEach(() => {
  process.env["FRESHET_HOME"] = home;
  if (home === undefined) delete process.env["FRESHET_HOME"];
});

/** @param dies at the call of that number, without an answer, as a process that is killed would leave it */
function functions(answer: (event: any) => object, dies = Number.POSITIVE_INFINITY) {
  const events: any[] = [];
  const port: Functions = {
    async invoke<T>(_: string, event: unknown) {
      if (events.length >= dies) throw new Error("killed");
      events.push(event);
      return answer(event) as T;
    },
    close() {},
  };
  return { port, events };
}
const replay = (over: Partial<Replay> = {}): Replay => ({
  ...{ stream: "transactions", fromMs: Date.now() - 3_600_000, toMs: Date.now() + 60_000, sealMs: 0 },
  ...{ dryRun: false, ratePerS: undefined, ...over },
});
const run = (port: Functions, state: ReplayState, keep: (state: ReplayState, share: number) => void) => ({
  ...{ functions: port, state, keep, signal: new AbortController().signal },
  deployment: {
    ...{ replayFunction: "replay", streams: { transactions: STREAM }, stage: "local" },
    broker: { kind: "kinesis", client: { endpoint: emulator.url, region: "us-east-1", credentials } },
  } as never,
});
const firsts = (events: any[]) =>
  events.flatMap(({ records }) => records.map(({ data }: any) => Buffer.from(data, "base64").toString("utf8", 0, 4)));
const counted = ({ records }: any) => ({
  events: records.length,
  applied: records.length,
  duplicates: 0,
  late: 0,
  quarantined: 0,
});

test("of the broker: what was done is not read again, and nothing is left out", async () => {
  process.env["FRESHET_HOME"] = temporaryFolder();
  const file = replayStateFile({ stream: "transactions", from: 1 });
  const order = replay();
  const first = functions(counted, 2);
  await expect(
    replayFromBroker(
      order,
      run(first.port, NOTHING_YET, (state) => file.write(state)),
    ),
  ).rejects.toThrow("killed");
  const kept = file.read()!;
  expect(kept.counts.events).toBe(firsts(first.events).length);
  const second = functions(counted);
  const shares: number[] = [];
  const counts = await replayFromBroker(
    order,
    run(second.port, kept, (_, share) => shares.push(share)),
  );
  expect(counts).toMatchObject({ events: 40, applied: 40 });
  const all = [...firsts(first.events), ...firsts(second.events)];
  expect([...all].sort()).toEqual(Array.from({ length: 40 }, (_, i) => String(i).padStart(4, "0")));
  for (const share of shares) expect(share >= 0 && share <= 1).toBe(true);
});

test("of the broker: a range holds what arrived in it, and a dry run asks nothing of the function", async () => {
  const none = functions(counted);
  const past = replay({ toMs: Date.now() - 1_800_000 });
  expect(
    await replayFromBroker(
      past,
      run(none.port, NOTHING_YET, () => {}),
    ),
  ).toMatchObject({ events: 0 });
  expect(
    await replayFromBroker(
      replay({ dryRun: true }),
      run(none.port, NOTHING_YET, () => {}),
    ),
  ).toMatchObject({ events: 40 });
  expect(none.events).toEqual([]);
});

test("of the archive: it goes on after the object that was done last, and adds up what its calls counted", async () => {
  process.env["FRESHET_HOME"] = temporaryFolder();
  const file = replayStateFile({ stream: "transactions", from: 2 });
  const keys = ["a", "b", "c"];
  const answer = ({ replay: { after } }: any) => {
    const at = keys.indexOf(after) + 1;
    const state = at === keys.length - 1 ? "done" : "more";
    const counts = { events: 10, applied: 1, duplicates: 9, sealed: 0, late: 0, refused: 0 };
    return { state, after: keys[at], objects: 3, objectsDone: at + 1, ...counts };
  };
  const first = functions(answer, 1);
  await expect(
    replayFromArchive(
      replay(),
      run(first.port, NOTHING_YET, (state) => file.write(state)),
    ),
  ).rejects.toThrow("killed");
  const second = functions(answer);
  const counts = await replayFromArchive(
    replay(),
    run(second.port, file.read()!, () => {}),
  );
  expect(second.events.map(({ replay: { after } }) => after)).toEqual(["a", "b"]);
  expect(counts).toMatchObject({ events: 30, applied: 3, duplicates: 27 });
});

test("of the archive: what is older than a day is read by event time first, and what grows as old meanwhile", async () => {
  process.env["FRESHET_HOME"] = temporaryFolder();
  const file = replayStateFile({ stream: "transactions", from: 3 });
  const [NOW, HOUR] = [Date.now(), 3_600_000];
  let nowMs = NOW;
  const calls: unknown[] = [];
  let dies = 2;
  const port: Functions = {
    async invoke<T>(name: string, { kind, replay: { fromMs, toMs, after } }: any) {
      if (calls.length === dies) throw new Error("killed");
      calls.push([name, kind, ...[fromMs, toMs].map((ms) => Math.round((ms - NOW) / HOUR)), after]);
      // Each range is two steps; the second one of what is raw takes ten hours.
      const state = after === null ? "more" : "done";
      if (name === "replay" && after === null) nowMs += 10 * HOUR;
      const counts = { events: 1, applied: 1, duplicates: 0, sealed: 0, late: 0, refused: 0 };
      return {
        state,
        after: after === null ? "1" : "2",
        objects: 2,
        objectsDone: after === null ? 1 : 2,
        ...counts,
      } as T;
    },
    close() {},
  };
  const order = replay({ fromMs: NOW - 30 * HOUR, toMs: NOW });
  const shares: number[] = [];
  const go = () => {
    const kept = run(port, file.read() ?? NOTHING_YET, (state, share) => {
      file.write(state);
      shares.push(share);
    });
    Object.assign(kept.deployment, { buildFunction: "build" });
    return replayFromArchive(order, kept, () => nowMs);
  };
  await expect(go()).rejects.toThrow("killed");
  dies = -1;
  const counts = await go();
  expect(calls).toEqual([
    ["build", "archive", -30, -20, null],
    ["build", "archive", -30, -20, "1"],
    ["replay", "archive", -20, 0, null],
    ["build", "archive", -20, -10, null],
    ["build", "archive", -20, -10, "1"],
    ["replay", "archive", -10, 0, "1"],
  ]);
  expect(counts).toMatchObject({ events: 6, applied: 6 });
  for (const share of shares) expect(share >= 0 && share <= 1).toBe(true);
});

test("a state that was never whole is none: the replay begins anew, which counts nothing twice", () => {
  process.env["FRESHET_HOME"] = temporaryFolder();
  const file = replayStateFile({ stream: "clicks" });
  expect(file.read()).toBeNull();
  file.write({ ...NOTHING_YET, after: "key" });
  expect(file.read()).toMatchObject({ after: "key" });
  expect(replayStateFile({ stream: "labels" }).read()).toBeNull();
  file.remove();
  expect(file.read()).toBeNull();
});
