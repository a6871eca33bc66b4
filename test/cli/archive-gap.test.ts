/** Which events a recovery takes from the archive: all that the broker may have lost, at the beginning and while it is read. */
import { describe, expect, it } from "vitest";
import { ArchiveGapReplay } from "../../cli/archive-gap.ts";
import type { BuildEvent } from "../../functions/build.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function opened(sealMs: number, stepMs: number) {
  const asked: [number, number][] = [];
  const at = { nowMs: 100 * DAY };
  const functions = {
    invoke: async <T>(name: string, event: unknown): Promise<T> => {
      expect(name).toBe("build");
      const { fromMs, toMs } = event as BuildEvent & { fromMs: number; toMs: number };
      asked.push([fromMs, toMs]);
      return { nextMs: Math.min(toMs, fromMs + stepMs), events: 10, applied: 7 } as T;
    },
  };
  const source = { functions, deployment: { buildFunction: "build" }, progress: () => {}, clock: () => at.nowMs };
  return { asked, at, gap: new ArchiveGapReplay(source, { stream: "payments", sealMs, retentionMs: DAY }) };
}

describe("a gap between a snapshot and the broker", () => {
  it("is asked for part by part, up to an hour into what the broker holds", async () => {
    const { asked, gap } = opened(98 * DAY, 10 * HOUR);
    expect(await gap.run()).toEqual({ records: 30, applied: 21 });
    const end = 99 * DAY + HOUR;
    expect(asked).toEqual([
      [98 * DAY, end],
      [98 * DAY + 10 * HOUR, end],
      [98 * DAY + 20 * HOUR, end],
    ]);
  });

  it("grows with what the broker loses while it is read", async () => {
    const { asked, at, gap } = opened(98 * DAY, 7 * DAY);
    await gap.run();
    expect(await gap.run()).toEqual({ records: 0, applied: 0 });
    at.nowMs += 2 * HOUR;
    expect(await gap.run()).toEqual({ records: 10, applied: 7 });
    expect(asked.at(-1)).toEqual([99 * DAY + HOUR, 99 * DAY + 3 * HOUR]);
  });

  it("is looked at before anything is changed, with nothing replayed", async () => {
    const { asked, gap } = opened(98 * DAY, 7 * DAY);
    await gap.check();
    expect(asked).toEqual([[98 * DAY, 98 * DAY]]);
  });
});
