import { describe, expect, it } from "vitest";
import { type AliasChange, championBefore, NO_ALIASES, withAlias } from "../../core/aliases.ts";
import { judge } from "../../core/gate.ts";

const champion = { pr_auc: 0.4, recall_at_fpr_1pct: 0.5, brier: 0.02, base_rate: 0.01 };

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

  it("holds a first model to chance", () => {
    expect(judge(champion, null).passed).toBe(true);
    expect(judge({ pr_auc: 0.01, base_rate: 0.01 }, null).reason).toBe(
      "pr_auc 0.0100 is no better than chance, 0.0100",
    );
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
