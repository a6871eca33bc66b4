import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SCHEMA_FOLDER } from "../../adapters/avro/schema-folder.ts";
import { freshetHere } from "../support/freshet-here.ts";

let path: string;
beforeEach(() => {
  // As in a checkout: the golden bytes lie beside the contracts.
  path = mkdtempSync(join(tmpdir(), "freshet-schemas-"));
  cpSync(SCHEMA_FOLDER, join(path, "schemas"), { recursive: true });
  mkdirSync(join(path, "test/fixtures/golden"), { recursive: true });
  writeFileSync(join(path, "test/fixtures/golden/events.json"), "[]");
});
afterEach(() => rmSync(path, { recursive: true }));

const schemas = (...args: string[]) => freshetHere(["schemas", ...args, "--folder", join(path, "schemas")], path);
function addField(field: Record<string, unknown>): void {
  const file = join(path, "schemas/labels.v1.avsc");
  const schema = JSON.parse(readFileSync(file, "utf8"));
  schema.fields.push(field);
  writeFileSync(file, JSON.stringify(schema));
}
const loss = { name: "loss", type: ["null", "double"], default: null, doc: "What it cost." };

describe("freshet schemas", () => {
  test("check passes what was shipped", async () => {
    expect(await schemas("check")).toEqual({
      code: 0,
      out: "Contracts are compatible with every shipped version.\n",
      err: "",
    });
  });

  test("check refuses an incompatible change with field and repair, and so does release", async () => {
    addField({ name: "loss", type: "double", doc: "What it cost." });
    const checked = await schemas("check");
    expect(checked.code).toBe(1);
    expect(checked.out).toBe(
      "labels.v1: field loss has no default, so events of revision 1, which lack it, could not be read [field_without_default]\n" +
        '  repair: give loss a default, as "type": ["null", …], "default": null\n',
    );
    expect(JSON.parse((await schemas("check", "--json")).out)).toMatchObject([
      { contract: "labels.v1", code: "field_without_default", field: "loss" },
    ]);
    const released = await schemas("release", "labels.v1");
    expect(released.code).toBe(1);
    expect(released.err).toContain("labels.v1 cannot be released: field loss has no default");
  });

  test("release records a compatible change with its golden bytes, after which check passes", async () => {
    addField(loss);
    expect((await schemas("check")).out).toContain("repair: run freshet schemas release labels.v1");
    const released = JSON.parse((await schemas("release", "labels.v1", "--json")).out);
    expect(released).toMatchObject({ revision: 2, compatibility: "full-transitive" });
    expect((await schemas("check")).code).toBe(0);
    const [golden] = JSON.parse(readFileSync(join(path, "test/fixtures/golden/events.json"), "utf8"));
    expect(golden).toMatchObject({ contract: "labels.v1", revision: 2, fingerprint: released.fingerprint });
    expect(golden.hex.startsWith("c301")).toBe(true);
    expect((await schemas("show", "labels.v1", "--revision", "2")).out).toContain("What it cost.");
    expect((await schemas("fingerprint", "labels.v1")).out.trim()).toBe(released.fingerprint);
  });

  test("an unknown contract is told with those that there are", async () => {
    const shown = await schemas("show", "orders.v1");
    expect(shown.code).toBe(2);
    expect(shown.err).toContain("use one of clicks.v1, feature_events.v1, labels.v1, transactions.v1");
  });
});
