/** Which events a recovery takes from the archive: all that the broker may have lost, at the beginning and while it is read. */
import { describe, expect, it } from "vitest";
import { ArchiveGapReplay } from "../../cli/archive-gap.ts";
import type { BuildEvent } from "../../functions/build.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function opened(sealMs: number, stepMs: number) {
  const asked: [number, number][] = [];
  const functions = {
    invoke: async <T>(name: string, event: unknown): Promise<T> => {
      expect(name).toBe("build");
      const { fromMs, toMs } = event as BuildEvent & { fromMs: number; toMs: number };
      asked.push([fromMs, toMs]);
      return { nextMs: Math.min(toMs, fromMs + stepMs), events: 10, applied: 7 } as T;
    },
  };
  const source = { functions, deployment: { buildFunction: "build" }, progress: () => {}, clock: () => 100 * DAY };
  return { asked, gap: new ArchiveGapReplay(source, { stream: "payments", sealMs }) };
}

describe("a gap between a snapshot and the broker", () => {
  it("is asked for part by part, up to an hour into what the broker holds", async () => {
    const { asked, gap } = opened(98 * DAY, 10 * HOUR);
    expect(await gap.run(99 * DAY)).toEqual({ records: 30, applied: 21 });
    const end = 99 * DAY + HOUR;
    expect(asked).toEqual([
      [98 * DAY, end],
      [98 * DAY + 10 * HOUR, end],
      [98 * DAY + 20 * HOUR, end],
    ]);
  });

  it("grows with what the broker loses while it is read", async () => {
    const { asked, gap } = opened(98 * DAY, 7 * DAY);
    await gap.run(99 * DAY);
    expect(await gap.run(99 * DAY)).toEqual({ records: 0, applied: 0 });
    expect(await gap.run(99 * DAY + 2 * HOUR)).toEqual({ records: 10, applied: 7 });
    expect(asked.at(-1)).toEqual([99 * DAY + HOUR, 99 * DAY + 3 * HOUR]);
  });

  it("ends now, where the broker holds nothing any more", async () => {
    const { asked, gap } = opened(98 * DAY, 7 * DAY);
    await gap.run(100 * DAY);
    expect(asked).toEqual([[98 * DAY, 100 * DAY]]);
  });

  it("is looked at before anything is changed, with nothing replayed", async () => {
    const { asked, gap } = opened(98 * DAY, 7 * DAY);
    await gap.check();
    expect(asked).toEqual([[98 * DAY, 98 * DAY]]);
  });
});
