import { describe, expect, it } from "vitest";
import { declaredOutcomes, outcomesByEvent } from "../../../adapters/offline/outcomes.ts";
import { plan } from "../../../features/plan.ts";
import { recommendation as definition } from "../../../features/recommendation.ts";
import { type Click, clickRow } from "../../support/fraud-archive.ts";
import { trainingWorld } from "../../support/training-world.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 10, 1, 12);
const at = (minutes: number) => START + minutes * MINUTE;
const view = (id: string, minutes: number, item: string, more: Partial<Click> = {}): Click => ({
  id,
  timeMs: at(minutes),
  user: "u1",
  item,
  action: "view",
  category: "fuel",
  ...more,
});
const clicks: Click[] = [
  // A list of three, of which the second is clicked.
  view("v1", 0, "a"),
  view("v2", 0, "b"),
  view("v3", 0, "c", { user: "u2" }),
  { ...view("c2", 1, "b"), action: "click", follows: "v2" },
  { ...view("p2", 2, "b"), action: "purchase", follows: "v2" },
  // Sees what came before it, its own click not.
  view("v4", 5, "b"),
  { ...view("c4", 5.01, "b", { category: "travel" }), action: "click", follows: "v4" },
  // A click that comes when the outcome is known is no outcome, nor is one before the showing.
  view("slow", 10, "a"),
  { ...view("c-slow", 40, "a"), action: "click", follows: "slow" },
  view("early", 20, "a"),
  { ...view("c-early", 19, "a"), action: "click", follows: "early" },
  // To the last millisecond.
  view("just", 11, "a"),
  { ...view("c-just", 41, "a", { timeMs: at(41) - 1 }), action: "click", follows: "just" },
  { ...view("c-nobody", 12, "a"), action: "click", follows: "nobody" },
  // Open at the end of the archive, although it is clicked already.
  view("open", 60, "a"),
  { ...view("c-open", 61, "a"), action: "click", follows: "open" },
  view("last", 80, "z"),
];

const rows = clicks.map(clickRow);
// Delivered twice, as after a retry.
const world = trainingWorld("recommendation", [...rows, ...rows.slice(0, 8)], {
  fromMs: START,
  labelDelayMs: 30 * MINUTE,
});
const build = (toMs = at(60) + 1, more: Parameters<typeof world.build>[1] = {}) =>
  world.build({ kind: "labels", stream: "clicks", asOf: "event_time" }, { toMs, ...more });

describe("a training set from outcomes", () => {
  it("has a row for each showing, clicked or not within the delay", async () => {
    const manifest = await build();
    const rows = await world.rowsById();
    expect(Object.fromEntries(Object.entries<any>(rows).map(([id, { label }]) => [id, label]))).toEqual({
      v1: 0,
      v2: 1,
      v3: 0,
      v4: 1,
      slow: 0,
      just: 1,
      early: 0,
    });
    expect(manifest).toMatchObject({
      service: "recommendation",
      label_delay_ms: 30 * MINUTE,
      as_of_rule: "event_time",
      row_count: 7,
      positives: 3,
      own_event_visible_rows: 0,
      left_out: { label_pending: 1 },
    });
    expect(manifest.sources.map(({ stream }) => stream)).toEqual(["clicks"]);
  });

  it("shows each row what was visible when it was shown: neither its own click, nor its list, nor itself", async () => {
    await build();
    const { v1, v2, v4 } = await world.rowsById();
    for (const row of [v1, v2]) {
      expect(row).toMatchObject({
        "item_activity:shown_1h": null,
        "user_clicks:clicked_7d": null,
        "request:category": "fuel",
        same_category: null,
        item_click_share: 1 / 20,
      });
    }
    expect(v4).toMatchObject({
      user_id: "u1",
      item_id: "b",
      as_of_ms: BigInt(at(5)),
      "item_activity:shown_7d": 1n,
      "item_activity:clicked_7d": 1n,
      "item_activity:purchases_7d": 1n,
      "user_clicks:clicked_24h": 1n,
      "user_clicks:clicks_1h": 4n,
      "user_clicks:last_category_7d": "fuel",
      user_click_share: 1 / 4,
      item_click_share: 2 / 21,
      same_category: true,
    });
  });

  it("asks for more when no showing has an outcome yet", async () => {
    await expect(build(at(100), { fromMs: at(55) })).rejects.toMatchObject({
      code: "labels_empty",
      message: expect.stringContaining("2 were read, 2 of them with an open outcome"),
    });
  });

  it("takes a stream of labels where one is named", async () => {
    const spine = { kind: "labels", stream: "labels", asOf: "event_time" } as const;
    await expect(build(at(60), { spine })).rejects.toMatchObject({
      code: "labels_unclear",
      message: "no field of labels.v1 is the event id of a stream behind recommendation",
    });
  });
});

it("what became of each showing, for scores that are joined with it", async () => {
  const outcomes = declaredOutcomes(plan, definition, "clicks")!;
  await world.mount(outcomes.stream, { fromMs: 0, toMs: at(10_000) }, "whole");
  const found = await outcomesByEvent(world.session, "whole", outcomes);
  expect([found.get("v1"), found.get("v2"), found.get("slow"), found.get("open")]).toEqual([
    false,
    true,
    false,
    undefined,
  ]);
  expect(declaredOutcomes(plan, definition, "labels")).toBeNull();
});
