/** `freshet schemas push` against a real registry, as a process; and what that registry then refuses. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, inject, test } from "vitest";
import { SCHEMA_FOLDER } from "../../adapters/avro/schema-folder.ts";
import { ConfluentRegistry } from "../../adapters/schema-registry/confluent.ts";
import { FreshetError } from "../../core/errors.ts";
import { ROOT } from "../../local/home.ts";
import { shipped } from "../../schemas/shipped.ts";
import { registryUrl } from "../support/apicurio.ts";

const url = registryUrl(inject("schemaRegistry").port);
const registry = new ConfluentRegistry({ url });
const folder = mkdtempSync(join(tmpdir(), "freshet-schemas-"));
afterAll(() => rmSync(folder, { recursive: true }));

function freshet(...args: string[]) {
  const command = ["cli/freshet.ts", "schemas", "push", "--registry", url, ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: ROOT, encoding: "utf8" });
  return { status, stdout, stderr };
}
function pushed(...args: string[]) {
  const { status, stdout, stderr } = freshet("--json", ...args);
  expect([status, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as {
    subjects: { subject: string; rule: object; versions: { status: string; id: string | null }[] }[];
  };
}
const statuses = (report: ReturnType<typeof pushed>) =>
  report.subjects.flatMap(({ versions }) => versions.map((v) => v.status));
const all = Object.values(shipped).flat().length;

test("a dry run says what would be new, and leaves the registry as it is", async () => {
  expect(statuses(pushed("--stage", "dry", "--dry-run"))).toEqual(Array(all).fill("new"));
  expect(await registry.versions("freshet-dry-transactions-value")).toEqual([]);
  expect(await registry.compatibility("freshet-dry-transactions-value")).toBe(null);
});

test("every shipped version is registered once, oldest first, under the rule of its contract", async () => {
  const first = pushed("--stage", "one");
  expect(statuses(first)).toEqual(Array(all).fill("new"));
  expect(first.subjects.map(({ rule }) => rule)).toEqual(
    first.subjects.map(() => ({ was: null, is: "FULL_TRANSITIVE" })),
  );
  const versions = await registry.versions("freshet-one-clicks-value");
  expect(versions.map((text) => JSON.parse(text).fields.length)).toEqual(
    shipped["clicks.v1"]!.map(({ schema }) => schema.fields.length),
  );
  const again = pushed("--stage", "one");
  expect(statuses(again)).toEqual(Array(all).fill("unchanged"));
  expect(again.subjects.map(({ versions }) => versions.map((v) => v.id))).toEqual(
    first.subjects.map(({ versions }) => versions.map((v) => v.id)),
  );
  expect(again.subjects.map(({ rule }) => rule)).toContainEqual({ was: "FULL_TRANSITIVE", is: "FULL_TRANSITIVE" });
});

test("subjects may be named by the record", () => {
  const { subjects } = pushed("--subjects", "record", "--dry-run");
  expect(subjects.map(({ subject }) => subject).sort()).toEqual(
    ["freshet.v1.Click", "freshet.v1.FeatureEvent", "freshet.v1.Label", "freshet.v1.Transaction"].sort(),
  );
});

test("an older version does not take a newer one's place as the latest", async () => {
  const newest = JSON.stringify(JSON.parse(readFileSync(join(SCHEMA_FOLDER, "history/clicks.v1/3.avsc"), "utf8")));
  await registry.register({ subject: "freshet-newer-clicks-value", text: newest });
  const { subjects } = pushed("--stage", "newer");
  const clicks = subjects.find(({ subject }) => subject === "freshet-newer-clicks-value")!;
  expect(clicks.versions.map(({ status }) => status)).toEqual(["passed over", "passed over", "unchanged"]);
});

test("the registry then refuses others' incompatible versions, with its reason", async () => {
  pushed("--stage", "rule");
  const subject = "freshet-rule-transactions-value";
  const { fields, ...schema } = JSON.parse((await registry.versions(subject)).at(-1)!);
  const text = JSON.stringify({ ...schema, fields: [...fields, { name: "needed", type: "string" }] });
  const error = await registry.register({ subject, text }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(FreshetError);
  expect((error as FreshetError).code).toBe("schema_refused");
  expect((error as FreshetError).message).toContain(`the registry refuses the schema under ${subject} (409): `);
});

test("nothing is pushed beside a version that the contract could not read, nor a contract that breaks its own", async () => {
  const subject = "freshet-beside-transactions-value";
  const bare = {
    type: "record",
    namespace: "freshet.v1",
    name: "Transaction",
    fields: [{ name: "tenant", type: "string" }],
  };
  await registry.register({ subject, text: JSON.stringify(bare) });
  const refused = freshet("--stage", "beside");
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain(
    `transactions.v1 cannot read what is registered: schema version 1 of ${subject} lacks field`,
  );
  expect(await registry.versions(subject)).toHaveLength(1);

  cpSync(SCHEMA_FOLDER, folder, { recursive: true });
  const file = join(folder, "transactions.v1.avsc");
  writeFileSync(
    file,
    readFileSync(file, "utf8").replace('"name": "amount", "type": "double"', '"name": "amount", "type": "string"'),
  );
  const broken = freshet("--stage", "broken", "--folder", folder);
  expect(broken.status).toBe(1);
  expect(broken.stderr).toContain("nothing was pushed: field amount is string");
  expect(await registry.versions("freshet-broken-clicks-value")).toEqual([]);
});

test("a registry that is not there, and an address that is none, are said", () => {
  const command = ["cli/freshet.ts", "schemas", "push", "--registry", "http://127.0.0.1:9"];
  const away = spawnSync(process.execPath, command, { cwd: ROOT, encoding: "utf8" });
  expect([away.status, away.stderr]).toEqual([1, expect.stringContaining("schema registry http://127.0.0.1:9: ")]);
});
