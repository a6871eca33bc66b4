import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Outgoing } from "../../../local/generator/disturb.ts";
import { type GenerateOptions, generate } from "../../../local/generator/run.ts";

const START = Date.UTC(2026, 0, 5, 12);
const options: GenerateOptions = {
  seed: 7,
  fromMs: START,
  toMs: START + 600_000,
  transactionsPerSecond: 5,
  fraudRate: 0.01,
  live: false,
  duplicates: 0.02,
  late: 0.02,
  disorder: 0.05,
  malformed: 0.01,
};
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "freshet-generate-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function memory() {
  const sent: Outgoing[] = [];
  return {
    sent,
    sink: {
      async send(batch: readonly Outgoing[]) {
        sent.push(...batch);
        return batch.length;
      },
      async close() {},
    },
  };
}
const count = (all: readonly Outgoing[], match: (out: Outgoing) => boolean) => all.filter(match).length;

describe("a run", () => {
  test("counts what it sent, by stream and by kind, and its ground truth has a line for each", async () => {
    const { sent, sink } = memory();
    const truthFile = join(folder, "truth.ndjson");
    const summary = await generate({ ...options, truthFile }, sink, () => {});
    expect(summary).toMatchObject({ sent: sent.length, acknowledged: sent.length, interrupted: false });
    for (const stream of ["transactions", "clicks", "labels"] as const) {
      expect(summary.byStream[stream], stream).toBe(count(sent, ({ event }) => event.stream === stream));
    }
    for (const kind of ["event", "duplicate", "late", "disorder", "malformed"] as const) {
      expect(summary.byKind[kind], kind).toBe(count(sent, (out) => out.kind === kind));
      expect(summary.byKind[kind], kind).toBeGreaterThan(0);
    }
    expect(summary.fraud).toBeGreaterThan(0);
    expect(summary.best.cases).toBe(
      count(sent, ({ event, kind }) => event.stream === "transactions" && kind !== "duplicate" && kind !== "malformed"),
    );

    const truth = readFileSync(truthFile, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(truth.map(({ id, kind, event_time }) => [id, kind, event_time])).toEqual(
      sent.map(({ event, kind }) => [event.id, kind, event.timeMs]),
    );
    expect(truth.filter(({ stream, fraud }) => stream === "transactions" && fraud !== null).length).toBe(summary.fraud);
    expect(truth.filter(({ kind, fault }) => (fault === undefined) === (kind === "malformed"))).toEqual([]);
    const isChance = ({ stream, fraud_probability: chance }: { stream: string; fraud_probability?: number }) =>
      stream === "transactions" ? chance! > 0 && chance! < 1 : chance === undefined;
    expect(truth.filter((line) => !isChance(line))).toEqual([]);
    const shown = truth.filter(({ stream, fields }) => stream === "clicks" && fields.action === "view");
    expect(
      shown.every(({ clicked, click_probability: chance }) => chance > 0 && chance < 1 && clicked !== undefined),
    ).toBe(true);
    expect(summary.bestOfClicks.cases).toBe(
      shown.filter(({ kind }) => kind !== "duplicate" && kind !== "malformed").length,
    );
    const labelled = truth.filter(({ stream, kind }) => stream === "labels" && kind === "event");
    for (const { fields, fraud } of labelled) expect(fields.is_fraud).toBe(fraud !== null);
  });

  test("is the same again", async () => {
    const [first, second] = [memory(), memory()];
    await generate(options, first.sink, () => {});
    await generate(options, second.sink, () => {});
    // As text: comparing buffers byte by byte takes a second.
    const told = ({ bytes, ...rest }: Outgoing) => `${JSON.stringify(rest)} ${bytes.toString("base64")}`;
    expect(second.sent.map(told)).toEqual(first.sent.map(told));
  });

  test("ends at its count", async () => {
    const { sent, sink } = memory();
    const shares: number[] = [];
    const summary = await generate({ ...options, count: 1_234 }, sink, (_, share) => shares.push(share));
    expect([summary.sent, sent.length]).toEqual([1_234, 1_234]);
    expect(shares.at(-1)).toBe(1);
  });

  test("that is stopped ends what it began, and says so", async () => {
    const { sent, sink } = memory();
    const abort = new AbortController();
    const stopEarly = (summary: { sent: number }) => {
      if (summary.sent > 500) abort.abort();
    };
    const summary = await generate(options, sink, stopEarly, abort.signal);
    expect(summary.interrupted).toBe(true);
    expect(summary.sent).toBe(sent.length);
    expect(summary.sent).toBeLessThan(3_000);
  });

  test("counts as acknowledged what the sink says, not what it was given", async () => {
    const sink = { send: async (batch: readonly Outgoing[]) => batch.length - 1, close: async () => {} };
    let batches = 0;
    const summary = await generate({ ...options, count: 4_000 }, sink, () => {
      batches++;
    });
    expect(summary.acknowledged).toBe(4_000 - batches);
  });
});

test("live events are sent when their time has come, not before", async () => {
  const ahead: number[] = [];
  const sink = {
    async send(batch: readonly Outgoing[]) {
      for (const { event } of batch) ahead.push(event.timeMs - Date.now());
      return batch.length;
    },
    async close() {},
  };
  const fromMs = Date.now();
  await generate({ seed: 7, fromMs, toMs: fromMs + 700, transactionsPerSecond: 200, live: true }, sink, () => {});
  expect(ahead.length).toBeGreaterThan(50);
  expect(Math.max(...ahead)).toBeLessThanOrEqual(100);
});
