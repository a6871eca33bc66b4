import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { STORE_STATES, type StoreCondition } from "../../../adapters/online-store/store-states.ts";

const operations = readFileSync(new URL("../../../docs/operations.md", import.meta.url), "utf8");
const runbook = readFileSync(new URL("../../../docs/runbook.md", import.meta.url), "utf8");

test.each(Object.entries<StoreCondition>(STORE_STATES))(
  "docs/operations.md explains %s in the same words",
  (state, told) => {
    const row = operations.split("\n").find((line) => line.startsWith(`| \`${state}\` |`)) ?? "";
    const cells = row.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, ""));
    expect([cells[1], cells[4]]).toEqual([told.sentence, told.repair]);
    if (told.code !== null) expect(cells[2]).toContain(`\`${told.code}\``);
  },
);

test("the runbook has every code that a state refuses applies with", () => {
  for (const { code } of Object.values<StoreCondition>(STORE_STATES)) {
    if (code !== null) expect(runbook).toContain(`| \`${code}\` |`);
  }
});
