/**
 * What `recover` and `restore` ask for, and in which order, where broker and snapshots are of an age that no test can wait for: both are
 * answered here, as Kinesis and Lambda answer.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import type { OperatedDeployment } from "../../cli/deployment.ts";
import { recover } from "../../cli/recovery.ts";

const HOUR = 3_600_000;
const NOW = Math.floor(Date.now() / 60_000) * 60_000;
const iso = (ms: number) => new Date(ms).toISOString();
let server: Server | undefined;
afterEach(() => server?.close());

interface Given {
  /** Of the stream, which keeps records for a day. */
  readonly createdMs: number;
  /** The seal of the only snapshot; null without one. */
  readonly sealMs: number | null;
  /** When control saw the stream first. @default when it was made */
  readonly beganMs?: number;
}

/** A deployment whose store is lost. @returns what its functions are asked, in order */
async function lost({ createdMs, sealMs, beganMs = createdMs }: Given) {
  const asked: { name: string; event: any }[] = [];
  const rounds =
    sealMs === null
      ? []
      : [{ round: "r1", damage: null, startedMs: sealMs, epoch: 1, records: 1, bytes: 1, seals: { payments: sealMs } }];
  let state = "lost";
  const answerOf = (name: string, event: any): unknown => {
    if (name === "control") {
      if (event.kind === "restore") state = "restoring";
      if (event.kind === "accept") state = "ok";
      const seals = state === "lost" ? {} : { payments: sealMs ?? event.fromMs?.payments ?? createdMs };
      return { state, seals, runs: "r", unready: [], beganMs: { payments: beganMs } };
    }
    if (name === "restore" && event.kind === "rounds") return rounds;
    if (name === "restore" && event.resume) return { state: "none" };
    if (name === "restore" && event.kind === "restore") {
      state = "restoring";
      const done = { bucketsDone: 1_024, buckets: 1_024, records: 1, older: {}, undone: ["payments"] };
      return { state: "loaded", snapshot: "r1", startedMs: sealMs, epoch: 2, ...done };
    }
    if (name === "build")
      return event.kind === "gap" ? { nextMs: event.toMs, events: 3, applied: 2 } : { entities: 0, waiting: [] };
    return name === "materialize" ? { rows: 0, isWhole: true } : { applied: 1 };
  };
  const kinesis: Record<string, unknown> = {
    DescribeStreamSummary: {
      StreamDescriptionSummary: { RetentionPeriodHours: 24, StreamCreationTimestamp: createdMs / 1_000 },
    },
    ListShards: {
      Shards: [
        { ShardId: "s", HashKeyRange: { StartingHashKey: "0" }, SequenceNumberRange: { StartingSequenceNumber: "1" } },
      ],
    },
    GetShardIterator: { ShardIterator: "i" },
    GetRecords: { Records: [], MillisBehindLatest: 0 },
  };
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const target = String(request.headers["x-amz-target"] ?? "").split(".")[1];
      const name = /functions\/([^/]+)\/invocations/.exec(request.url!)?.[1];
      const event = JSON.parse(Buffer.concat(chunks).toString() || "{}");
      if (name !== undefined) asked.push({ name, event });
      const answer = name === undefined ? kinesis[target!] : answerOf(name, event);
      response.setHeader("content-type", "application/x-amz-json-1.1");
      response.end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server!.listen(0, "127.0.0.1", resolve));
  const client = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  };
  const functions = ["control", "aggregate", "build", "erase", "materialize", "restore"];
  const deployment = {
    ...Object.fromEntries(functions.map((name) => [`${name}Function`, name])),
    ...{ stage: "local", clientConfig: client, broker: { kind: "kinesis", client }, streams: { payments: "payments" } },
  } as unknown as OperatedDeployment;
  const told: string[] = [];
  const recovery = await recover(deployment, (message) => told.push(message));
  return { asked, told, recovery, gaps: asked.filter(({ event }) => event.kind === "gap").map(({ event }) => event) };
}

it("without a snapshot it begins where the broker has all, and leaves what is older to a build", async () => {
  const { asked, told, recovery } = await lost({ createdMs: NOW - 90 * 24 * HOUR, sealMs: null });
  expect(recovery).toMatchObject({ found: "lost", state: "ok", undone: [] });
  const { fromMs } = asked.find(({ name, event }) => name === "control" && event.kind === "restore")!.event;
  // An hour after the oldest record that it held a moment ago.
  expect(fromMs.payments).toBeGreaterThanOrEqual(NOW - 23 * HOUR);
  expect(fromMs.payments).toBeLessThan(NOW - 22 * HOUR);
  expect(told.join("\n")).toContain(
    `payments: events before ${iso(fromMs.payments)} come from the archive, by \`freshet backfill\` once this is done`,
  );
});

it("without a snapshot it takes all of a young stream from the broker", async () => {
  const { asked } = await lost({ createdMs: NOW - 5 * HOUR, sealMs: null });
  expect(asked.find(({ name, event }) => name === "control" && event.kind === "restore")!.event.fromMs).toEqual({});
});

it("without a snapshot it begins where a stream does that was lost and made again, and says where the rest comes from", async () => {
  const createdMs = NOW - 5 * HOUR;
  const { asked, told } = await lost({ createdMs, sealMs: null, beganMs: NOW - 20 * HOUR });
  const { fromMs } = asked.find(({ name, event }) => name === "control" && event.kind === "restore")!.event;
  expect(fromMs.payments).toBe(createdMs + HOUR);
  expect(told.join("\n")).toContain(`payments: events before ${iso(createdMs + HOUR)} come from the archive`);
});

it("without a snapshot it begins after a stream that was made again a moment ago, and takes clocks that differ for no loss", async () => {
  const again = await lost({ createdMs: NOW - 60_000, sealMs: null, beganMs: NOW - 20 * HOUR });
  const restore = again.asked.find(({ name, event }) => name === "control" && event.kind === "restore")!;
  // What had arrived before may be as much as a minute ahead.
  expect(restore.event.fromMs.payments).toBe(NOW + 60_000);
  const skewed = await lost({ createdMs: NOW - 5 * HOUR, sealMs: null, beganMs: NOW - 5 * HOUR - 120_000 });
  expect(skewed.asked.find(({ name, event }) => name === "control" && event.kind === "restore")!.event.fromMs).toEqual(
    {},
  );
});

it("with a snapshot it asks the archive for nothing that the broker holds", async () => {
  const { gaps, recovery } = await lost({ createdMs: NOW - 90 * 24 * HOUR, sealMs: NOW - HOUR });
  expect(gaps).toEqual([]);
  expect(recovery.undone).toEqual(["payments"]);
});

it.each([
  ["that is older than the broker's retention", NOW - 90 * 24 * HOUR, NOW - 30 * HOUR],
  ["of before the stream was lost and made again", NOW - 5 * HOUR, NOW - 6 * HOUR],
  ["of before a stream that was made a minute ago", NOW - HOUR / 60, NOW - HOUR / 6],
])(
  "with a snapshot %s it takes what lies between from the archive, before the broker's",
  async (_, createdMs, sealMs) => {
    const { gaps, asked } = await lost({ createdMs, sealMs });
    // Whether it can, before anything is dropped.
    expect(gaps[0]).toMatchObject({ fromMs: sealMs, toMs: sealMs });
    const dropped = asked.findIndex(({ name, event }) => name === "restore" && event.snapshot === "r1");
    expect(dropped).toBeGreaterThan(asked.findIndex(({ event }) => event.kind === "gap"));
    expect(gaps[1]).toMatchObject({ fromMs: sealMs });
    const heldMs = Math.max(createdMs, NOW - 24 * HOUR);
    expect(gaps[1].toMs).toBeGreaterThanOrEqual(Math.min(heldMs + HOUR, NOW));
    expect(gaps.length).toBeLessThan(5);
    expect(asked.findIndex(({ event }) => event.kind === "accept")).toBeGreaterThan(
      asked.findLastIndex(({ event }) => event.kind === "gap"),
    );
  },
);
