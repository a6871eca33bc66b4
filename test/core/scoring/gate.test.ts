import { describe, expect, it } from "vitest";
import { type AliasChange, championBefore, NO_ALIASES, withAlias } from "../../../core/scoring/aliases.ts";
import { type GateDefinition, judge as judgeMeasured } from "../../../core/scoring/gate.ts";

const champion = { pr_auc: 0.4, recall_at_fpr_1pct: 0.5, brier: 0.02, base_rate: 0.01 };

type Metrics = Record<string, number | null>;
const set = { from_ms: 0, to_ms: 1_000, row_count: 100, positives: 1 };
const judge = (candidate: Metrics, standing: Metrics | null, gate?: GateDefinition, trainingSet: object = set) =>
  judgeMeasured(
    { metrics: candidate, trainingSet: { ...trainingSet } },
    standing && { metrics: standing, trainingSet: set, manifestSha256: "c1" },
    gate,
  );

describe("the gate", () => {
  it.each([
    ["the same model", champion, null],
    ["a better one", { ...champion, pr_auc: 0.5 }, null],
    ["one that guards allow", { ...champion, recall_at_fpr_1pct: 0.451, brier: 0.0219 }, null],
    [
      "a worse one",
      { ...champion, pr_auc: 0.35 },
      "pr_auc 0.3500 is 0.0500 (12.5 %) worse than the champion's 0.4000; 0 % is allowed",
    ],
    [
      "one a hair worse",
      { ...champion, pr_auc: 0.4 - 1e-9 },
      "pr_auc 0.4000 is 0.0000 (0.0 %) worse than the champion's 0.4000; 0 % is allowed",
    ],
    [
      "one that finds less",
      { ...champion, recall_at_fpr_1pct: 0.4 },
      "recall_at_fpr_1pct 0.4000 is 0.1000 (20.0 %) worse than the champion's 0.5000; 10 % is allowed",
    ],
    [
      "a badly calibrated one",
      { ...champion, pr_auc: 0.9, brier: 0.03 },
      "brier 0.0300 is 0.0100 (50.0 %) worse than the champion's 0.0200; 10 % is allowed",
    ],
    ["one without the metric", { ...champion, pr_auc: null }, "pr_auc was not measured"],
    ["one whose metric is no number", { ...champion, pr_auc: Number.NaN }, "pr_auc was not measured"],
  ])("judges %s", (_, candidate, reason) => {
    expect(judge(candidate, champion)).toMatchObject({ passed: reason === null, reason });
  });

  it("compares with the champion's measures on the candidate's own rows, where there are any", () => {
    const harder = { pr_auc: 0.3, recall_at_fpr_1pct: 0.45, brier: 0.02, base_rate: 0.02, rows_test: 50 };
    const onThese = { pr_auc: 0.28, recall_at_fpr_1pct: 0.44, brier: 0.021, base_rate: 0.02 };
    const trainingSet = { ...set, from_ms: 500, to_ms: 1_500 };
    const standing = { metrics: champion, trainingSet: set, manifestSha256: "c1" };
    const against = (manifestSha256: string, metrics: Metrics = onThese) =>
      judgeMeasured({ metrics: harder, trainingSet, champion: { manifestSha256, metrics } }, standing);
    expect(against("c1")).toMatchObject({ passed: true, reservation: null });
    expect(against("c1").checks[0]).toMatchObject({ metric: "pr_auc", baseline: 0.28, measured: 0.28 });
    expect(against("c1", { ...onThese, pr_auc: 0.36 }).reason).toBe(
      "pr_auc 0.3000 is 0.0600 (16.7 %) worse than the champion's 0.3600; 0 % is allowed",
    );
    // Another model stands by now: what was measured is of no use, and each model's own rows count.
    expect(against("c2")).toMatchObject({ passed: false, reservation: expect.stringContaining("different rows") });
    expect(judgeMeasured({ metrics: harder, trainingSet, champion: null }, standing).passed).toBe(false);
  });

  it("holds a first model to chance", () => {
    expect(judge(champion, null).passed).toBe(true);
    expect(judge({ pr_auc: 0.01, base_rate: 0.01 }, null).reason).toBe(
      "pr_auc 0.0100 is no better than chance, 0.0100",
    );
  });

  it.each([
    ["pr_auc", 0.01, 0.0101],
    ["roc_auc", 0.5, 0.5001],
    ["recall_at_fpr_1pct", 0.01, 0.0101],
    // -(0.01 ln 0.01 + 0.99 ln 0.99) and 0.01 x 0.99: what the base rate as every row's probability gets.
    ["log_loss", 0.056001535, 0.056],
    ["brier", 0.0099, 0.0098],
  ])("knows chance of %s: %s is none", (metric, chance, better) => {
    const gate = { metric, tolerance: 0, guards: {} };
    const first = (value: number) => judge({ [metric]: value, base_rate: 0.01 }, null, gate);
    expect([first(chance).passed, first(better).passed]).toEqual([false, true]);
    expect(first(chance).checks[0].baseline).toBeCloseTo(chance, 8);
  });

  it("holds a candidate to the champion's skill, not to what its base rate gave it", () => {
    // As good at either base rate: 40 % of the way from chance to perfection, and of chance's Brier score the same share.
    const richer = { pr_auc: 0.05 + 0.4 * 0.95, recall_at_fpr_1pct: 0.5, brier: 0.8 * 0.05 * 0.95, base_rate: 0.05 };
    const poorer = { pr_auc: 0.01 + 0.4 * 0.99, recall_at_fpr_1pct: 0.5, brier: 0.8 * 0.01 * 0.99, base_rate: 0.01 };
    const gate = { metric: "pr_auc", tolerance: 1e-9, guards: { recall_at_fpr_1pct: 1e-9, brier: 1e-9 } };
    expect([judge(poorer, richer, gate).reason, judge(richer, poorer, gate).reason]).toEqual([null, null]);
    // Better by number, worse by skill.
    expect(judge({ ...richer, pr_auc: 0.42 }, poorer, gate).reason).toContain(
      "pr_auc 0.4200 is 0.0100 (2.3 %) worse than the champion's 0.4300 (0.4060 at its own base rate)",
    );
  });

  it("takes no word on the champion that leaves out what counts: then each model's own rows do", () => {
    const standing = { metrics: champion, trainingSet: set, manifestSha256: "c1" };
    const judged = (candidate: Metrics, told: Metrics) =>
      judgeMeasured(
        { metrics: candidate, trainingSet: set, champion: { manifestSha256: "c1", metrics: told } },
        standing,
      );
    const { brier: _, ...withoutGuard } = champion;
    for (const told of [{}, { ...champion, pr_auc: null }]) {
      expect(judged({ ...champion, pr_auc: 0.35 }, told).passed).toBe(false);
    }
    expect(judged({ ...champion, brier: 0.03 }, withoutGuard).passed).toBe(false);
  });

  it("says when the two were measured on different rows", () => {
    expect(judge(champion, champion).reservation).toBeNull();
    expect(judge(champion, null).reservation).toBeNull();
    const different = expect.stringContaining("the two were measured on different rows");
    for (const other of [{ to_ms: 2_000 }, { positives: 2 }, { row_count: 99 }])
      expect(judge(champion, champion, undefined, { ...set, ...other })).toMatchObject({
        passed: true,
        reservation: different,
      });
    expect(judge({ ...champion, rows_test: 10 }, { ...champion, rows_test: 20 }).reservation).toEqual(different);
  });

  it("says of every metric by which share it is worse, also where it passes", () => {
    const { checks } = judge({ ...champion, pr_auc: 0.5, brier: 0.021 }, champion);
    expect(checks.map(({ metric, worseBy }) => [metric, worseBy!.toFixed(3)])).toEqual([
      ["pr_auc", "-0.250"],
      ["recall_at_fpr_1pct", "0.000"],
      ["brier", "0.050"],
    ]);
  });

  it("takes the service's own metric, tolerance and guards", () => {
    const gate = { metric: "roc_auc", tolerance: 0.01, guards: {} };
    expect(judge({ roc_auc: 0.895 }, { roc_auc: 0.9 }, gate).passed).toBe(true);
    expect(judge({ roc_auc: 0.88 }, { roc_auc: 0.9 }, gate).reason).toContain("1 % is allowed");
  });
});

describe("aliases", () => {
  it("a version that takes a part gives up the one that it had", () => {
    const running = { ...NO_ALIASES, champion: 1, challenger: 2, share: 0.2, revision: 4 };
    expect(withAlias(running, "champion", 2)).toEqual({
      champion: 2,
      challenger: null,
      shadow: null,
      share: null,
      revision: 5,
    });
    expect(withAlias(running, "shadow", 3)).toEqual({ ...running, shadow: 3, revision: 5 });
    expect(withAlias(running, "challenger", 3, 0.5)).toEqual({ ...running, challenger: 3, share: 0.5, revision: 5 });
    expect(withAlias(running, "challenger", null)).toEqual({ ...running, challenger: null, share: null, revision: 5 });
  });

  it("rolling back goes further back each time", () => {
    const change = (revision: number, from: number | null, to: number, kind: AliasChange["kind"] = "promote") =>
      ({ revision, alias: "champion", from, to, kind }) as AliasChange;
    const history = [change(1, null, 1), change(2, 1, 2), change(3, 2, 3), change(4, 3, 2, "rollback")];
    expect(championBefore(3, history)).toBe(2);
    expect(championBefore(2, history)).toBe(1);
    expect(championBefore(1, history)).toBeNull();
  });
});
