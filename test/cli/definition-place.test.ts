import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { placeOf, tellLoadFailure } from "../../cli/definition-place.ts";
import { DefinitionError, type FreshetError } from "../../core/errors.ts";
import { ROOT } from "../../local/home.ts";

const lineOf = (file: string, text: string): string => {
  const lines = readFileSync(join(ROOT, file), "utf8").split("\n");
  return `${file}:${lines.findIndex((line) => line.includes(text)) + 1}`;
};

describe("the place of a definition", () => {
  it.each([
    ["feature card_activity:declines uses field x; use one of …", "features/card.ts", "declines:"],
    ["ttl 4d of view merchant_activity is shorter than …", "features/merchant.ts", 'featureView("merchant_activity"'],
    [
      "ttl 1h of batch view merchant_risk is shorter than …",
      "features/merchant-risk.ts",
      'batchFeatureView("merchant_risk"',
    ],
    ["service fraud uses view none, which …", "features/fraud.ts", 'featureService("fraud"'],
    ["stream clicks has contract clicks.v9; …", "features/streams.ts", 'stream("clicks"'],
    ["feature card_activity:not_there_any_more", "features/card.ts", 'featureView("card_activity"'],
  ])("of: %s", (message, file, text) => {
    expect(placeOf(message)).toBe(lineOf(file, text));
  });

  it("is nowhere for names that nothing declares, or no name at all", () => {
    expect(placeOf("two of feature view are named x_1h")).toBe(null);
    expect(placeOf("the plan is stale")).toBe(null);
  });
});

describe("a file of features/ that cannot be loaded", () => {
  const url = pathToFileURL(join(ROOT, "features", "card.ts")).href;
  const told = (message: string, stack: string): string => {
    const error = tellLoadFailure(Object.assign(new TypeError(message), { stack })) as FreshetError;
    return `${error.name}: ${error.message}; ${error.repair}`;
  };

  it("names the line, and what is not exported", () => {
    const message = "The requested module '../core/definition.ts' does not provide an export named 'median'";
    expect(told(message, `${url}:11\n  median,\nSyntaxError: ${message}\n    at node:internal`)).toBe(
      "DefinitionError: features/card.ts:11 imports median, which ../core/definition.ts does not have; " +
        "features/README.md lists the operators and conditions that there are",
    );
  });

  it("names an operator that was not called", () => {
    const stack = `TypeError: count.over is not a function\n    at ${url}:24:21\n    at ModuleJob.run (node:internal)`;
    expect(told("count.over is not a function", stack)).toBe(
      "DefinitionError: features/card.ts:24: count is a function that makes a feature; call it: count(…).over(…)",
    );
  });

  it("names an import of a file that is not there", () => {
    const message = `Cannot find module '${join(ROOT, "features/none.ts")}' imported from ${join(ROOT, "features/card.ts")}`;
    expect(told(message, `Error: ${message}\n    at node:internal`)).toContain(
      "features/card.ts imports features/none.ts, which is not there",
    );
  });

  it("keeps errors from elsewhere, and refusals, as they are", () => {
    const error = Object.assign(new TypeError("x"), {
      stack: `TypeError: x\n    at file://${ROOT}/cli/freshet.ts:1:1`,
    });
    expect(tellLoadFailure(error)).toBe(error);
    const refused = new DefinitionError("ttl_too_short", "…");
    expect(tellLoadFailure(refused)).toBe(refused);
  });
});
