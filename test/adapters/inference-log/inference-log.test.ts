import { readFileSync } from "node:fs";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createInferenceLog, type InferenceLogOptions } from "../../../adapters/inference-log/inference-log.ts";
import {
  encodeInferenceLog,
  type InferenceRow,
  inferenceLine,
  readInferenceLog,
} from "../../../adapters/inference-log/inference-log-format.ts";
import { inferenceRow } from "../../support/inference-row.ts";

const GOLDEN = join(import.meta.dirname, "..", "..", "fixtures", "golden", "inference-log.v1.json");
const encode = (...rows: InferenceRow[]) => encodeInferenceLog(Buffer.from(rows.map(inferenceLine).join("")));

describe("the format", () => {
  const rows = [
    inferenceRow(),
    inferenceRow({ vector: null, raw: null, shadow: null, statuses: [], degraded: "store_unavailable" }),
  ];

  it("reads back what was written", async () => {
    expect([...readInferenceLog(await encode(...rows))]).toEqual(rows);
    expect([...readInferenceLog(await encode())]).toEqual([]);
  });

  it("version 1 decodes for ever, and is still what is written", async () => {
    const golden = JSON.parse(readFileSync(GOLDEN, "utf8"));
    const bytes = Buffer.from(golden.base64, "base64");
    expect([...readInferenceLog(bytes)]).toEqual(rows);
    expect(zstdDecompressSync(await encode(...rows)).toString()).toBe(zstdDecompressSync(bytes).toString());
  });

  it("tells damage apart", async () => {
    const bytes = await encode(inferenceRow());
    const code = (given: Uint8Array) => {
      try {
        return `${[...readInferenceLog(given)].length} rows`;
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    const frame = (text: string) => zstdCompressSync(Buffer.from(text));
    expect(code(bytes.subarray(0, -7))).toBe("inference_log_truncated");
    expect(code(Buffer.concat([bytes, Buffer.from("x")]))).toBe("inference_log_trailing");
    expect(code(Buffer.from("garbage"))).toBe("inference_log_corrupt");
    expect(code(frame("{}\n"))).toBe("inference_log_version");
    expect(code(frame("{\n"))).toBe("inference_log_corrupt");
    expect(code(frame('{"v":1}'))).toBe("inference_log_truncated");
  });
});

describe("the writer", () => {
  afterEach(() => vi.useRealTimers());

  /** S3 that takes what it is given, or not. */
  function start(options: Partial<InferenceLogOptions> = {}) {
    const objects: { key: string; rows: InferenceRow[] }[] = [];
    const faults: { dropped: number; failed: boolean }[] = [];
    const state = { fails: false };
    const send = async ({ input }: any) => {
      if (state.fails) throw new Error("no answer");
      objects.push({ key: `${input.Bucket}/${input.Key}`, rows: [...readInferenceLog(input.Body)] });
    };
    const log = createInferenceLog({
      bucket: "b",
      s3: { send } as any,
      maxDelayMs: null,
      onFault: ({ error, dropped }) => faults.push({ dropped, failed: error !== undefined }),
      ...options,
    });
    return { log, objects, faults, state };
  }

  it("puts the rows of a tenant, service and hour into one object of that hour's folder", async () => {
    const { log, objects } = start();
    const later = 1_800_000_000_000 + 3_600_000;
    log.add(inferenceRow());
    log.add(inferenceRow({ asOfMs: later }));
    log.add(inferenceRow({ tenant: "team-b" }));
    log.add(inferenceRow({ requestId: "r-2" }));
    await log.flush();
    expect(objects.map(({ key, rows }) => [key.slice(0, key.lastIndexOf("/")), rows.length])).toEqual([
      ["b/inference-log/tenant=team-a/service=fraud/dt=2027-01-15/hh=08", 2],
      ["b/inference-log/tenant=team-a/service=fraud/dt=2027-01-15/hh=09", 1],
      ["b/inference-log/tenant=team-b/service=fraud/dt=2027-01-15/hh=08", 1],
    ]);
    expect(objects[0].rows.map(({ requestId }) => requestId)).toEqual(["r-1", "r-2"]);
  });

  it("writes by itself within its delay, and nothing when there is nothing", async () => {
    vi.useFakeTimers();
    const { log, objects } = start({ maxDelayMs: 5_000 });
    log.add(inferenceRow());
    await vi.advanceTimersByTimeAsync(4_999);
    expect(objects).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    vi.useRealTimers();
    await expect.poll(() => objects.length).toBe(1);
    await log.flush();
    expect(objects).toHaveLength(1);
    await log.close();
  });

  it("keeps what S3 refused, and writes it later: once, in order", async () => {
    const { log, objects, faults, state } = start();
    state.fails = true;
    log.add(inferenceRow({ requestId: "a" }));
    await log.flush();
    log.add(inferenceRow({ requestId: "b" }));
    await log.flush();
    expect(faults).toEqual([
      { dropped: 0, failed: true },
      { dropped: 0, failed: true },
    ]);
    state.fails = false;
    await log.close();
    expect(objects.flatMap(({ rows }) => rows.map(({ requestId }) => requestId))).toEqual(["a", "b"]);
  });

  it("closes in time over an S3 that hangs, and tells how many rows that costs", async () => {
    let asked = 0;
    const send = () => {
      asked++;
      return new Promise(() => {});
    };
    const { log, faults } = start({ s3: { send } as any, closingMs: 20 });
    log.add(inferenceRow({ requestId: "a" }));
    void log.flush();
    log.add(inferenceRow({ requestId: "b" }));
    log.add(inferenceRow({ requestId: "c" }));
    await log.close();
    expect(faults).toEqual([{ dropped: 3, failed: false }]);
    await expect.poll(() => asked).toBe(1);
  });

  it("repeats an attempt whose answer was lost onto the same object: no row is there twice", async () => {
    const stored = new Map<string, number>();
    let answers = false;
    const send = async ({ input }: any) => {
      stored.set(input.Key, [...readInferenceLog(input.Body)].length);
      if (!answers) throw new Error("no answer");
    };
    const { log } = start({ s3: { send } as any });
    log.add(inferenceRow());
    await log.flush();
    answers = true;
    log.add(inferenceRow({ requestId: "r-2" }));
    await log.flush();
    expect([...stored.values()]).toEqual([1, 1]);
  });

  it("is bounded while S3 hangs, whatever waits or is open: one call, objects of a few MB, the oldest given up", async () => {
    let calls = 0;
    let answer = () => {};
    const hanging = new Promise<void>((resolve) => (answer = resolve));
    const rows: number[] = [];
    const send = async ({ input }: any) => {
      calls++;
      await hanging;
      rows.push([...readInferenceLog(input.Body)].length);
    };
    const { log, faults } = start({ s3: { send } as any });
    const heavy = "x".repeat(1_000_000);
    // One hour, and then many that stay small each.
    for (let i = 0; i < 90; i++) log.add(inferenceRow({ model: heavy, asOfMs: i < 45 ? 0 : i * 3_600_000 }));
    await expect.poll(() => calls).toBe(1);
    const dropped = faults.reduce((sum, one) => sum + one.dropped, 0);
    // 64 MiB are 67 rows.
    expect(dropped).toBeGreaterThanOrEqual(90 - 67);
    expect(dropped).toBeLessThanOrEqual(90 - 67 + 5);
    answer();
    await log.close();
    expect(Math.max(...rows)).toBeLessThanOrEqual(5);
    expect(rows.reduce((sum, count) => sum + count, 0) + dropped).toBe(90);
  });

  it("loses nothing that is added while a flush is under way", async () => {
    const { log, objects } = start();
    for (let i = 0; i < 50; i++) {
      log.add(inferenceRow({ requestId: `r${i}` }));
      if (i % 7 === 0) void log.flush();
      if (i % 11 === 0) await new Promise(setImmediate);
    }
    await log.close();
    expect(objects.flatMap(({ rows }) => rows.map(({ requestId }) => requestId))).toEqual(
      Array.from({ length: 50 }, (_, i) => `r${i}`),
    );
  });

  it("writes what is added meanwhile to other memory, and the memory of what is stored again", async () => {
    const { log, objects, state } = start();
    let added = 0;
    for (let object = 0; object < 12; object++) {
      state.fails = object % 4 === 3;
      // Longer and shorter than the object before, in texts of one, two and four bytes a sign.
      for (let row = 0; row < [3, 40, 1, 200][object % 4]; row++) {
        const model = ["m", "ö", "😀"][added % 3].repeat((added * 997) % 5_000);
        log.add(inferenceRow({ requestId: `r${added++}`, model }));
      }
      const flushed = log.flush();
      if (object % 3 === 0) await flushed;
    }
    await log.flush();
    state.fails = false;
    await log.close();
    const rows = objects.flatMap((object) => object.rows);
    expect(rows.map(({ requestId }) => requestId)).toEqual(Array.from({ length: added }, (_, i) => `r${i}`));
    rows.forEach(({ model }, i) => {
      expect(model).toBe(["m", "ö", "😀"][i % 3].repeat((i * 997) % 5_000));
    });
  });

  it("gives up the oldest rows beyond its bound, and the last ones at its end, and says how many", async () => {
    const { log, faults, state } = start();
    state.fails = true;
    const heavy = "x".repeat(1_000_000);
    for (let i = 0; i < 70; i++) {
      log.add(inferenceRow({ model: heavy, asOfMs: i * 3_600_000 }));
      await log.flush();
    }
    const given = () => faults.reduce((sum, { dropped }) => sum + dropped, 0);
    expect(given()).toBeGreaterThanOrEqual(2);
    expect(given()).toBeLessThanOrEqual(4);
    await log.close();
    expect(given()).toBe(70);
  });
});
