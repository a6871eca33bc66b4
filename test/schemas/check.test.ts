import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkSchemas } from "../../adapters/avro/check-schemas.ts";
import { goldenEvent } from "../../adapters/avro/golden-bytes.ts";
import { SCHEMA_FOLDER, SchemaFolder } from "../../adapters/avro/schema-folder.ts";

test("the contracts of this checkout are compatible, recorded and generated", () => {
  expect(checkSchemas()).toEqual([]);
});

describe("a change of a contract", () => {
  let path: string;
  let folder: SchemaFolder;
  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), "freshet-schemas-"));
    cpSync(SCHEMA_FOLDER, path, { recursive: true });
    folder = new SchemaFolder(path);
  });
  afterEach(() => rmSync(path, { recursive: true }));

  type Fields = { name: string; type: unknown; default?: unknown; doc?: string }[];
  function edit(file: string, change: (fields: Fields) => void): void {
    const schema = JSON.parse(readFileSync(join(path, file), "utf8"));
    change(schema.fields);
    writeFileSync(join(path, file), JSON.stringify(schema));
  }
  const found = () => checkSchemas(folder).map(({ contract, code, field }) => [contract, code, field]);
  const named = (fields: Fields, name: string) => fields.find((field) => field.name === name)!;

  test("that adds a field without a default is refused with field and repair", () => {
    edit("labels.v1.avsc", (fields) => fields.push({ name: "loss", type: "double", doc: "What it cost." }));
    const [problem] = checkSchemas(folder);
    expect(problem).toEqual({
      contract: "labels.v1",
      code: "field_without_default",
      field: "loss",
      message: "field loss has no default, so events of revision 1, which lack it, could not be read",
      repair: 'give loss a default, as "type": ["null", …], "default": null',
    });
  });

  test("that clashes with a revision before the last is refused by the default mode", () => {
    edit("transactions.v1.avsc", (fields) => {
      named(fields, "status").name = "outcome";
    });
    expect(found()).toEqual([
      ["transactions.v1", "field_without_default", "outcome"],
      ["transactions.v1", "field_removed", "status"],
    ]);
  });

  test("that is compatible waits for its release, and then is current", () => {
    edit("labels.v1.avsc", (fields) =>
      fields.push({ name: "loss", type: ["null", "double"], default: null, doc: "What it cost." }),
    );
    expect(found()).toEqual([
      ["labels.v1", "change_unreleased", undefined],
      ["schemas", "generated_stale", undefined],
    ]);
    expect(folder.release("labels.v1", "full-transitive").revision).toBe(2);
    folder.writeGenerated();
    expect(found()).toEqual([]);
  });

  test("of documentation alone needs no release, but reaches the API's reference", () => {
    edit("labels.v1.avsc", (fields) => {
      named(fields, "source").doc = "Another wording.";
    });
    expect(checkSchemas(folder)).toEqual([
      {
        contract: "schemas",
        code: "generated_stale",
        message: "documentation.ts is not what the contracts generate",
        repair: "run freshet schemas types",
      },
    ]);
    folder.writeGenerated();
    expect(found()).toEqual([]);
    expect(readFileSync(join(path, "documentation.ts"), "utf8")).toContain('source: "Another wording."');
  });

  test("that leaves a field undocumented is refused", () => {
    edit("labels.v1.avsc", (fields) => {
      named(fields, "source").doc = " ";
    });
    expect(found()).toEqual([["labels.v1", "doc_missing", "source"]]);
  });

  test("that makes tenant optional is refused", () => {
    edit("labels.v1.avsc", (fields) => {
      named(fields, "tenant").default = "default";
    });
    expect(found()).toEqual([["labels.v1", "tenant_required", "tenant"]]);
  });

  test("to a type that no feature could read is refused", () => {
    edit("labels.v1.avsc", (fields) => {
      named(fields, "source").type = { type: "array", items: "string" };
    });
    expect(checkSchemas(folder)[0].message).toBe(
      'field source of labels.v1 has type {"type":"array","items":"string"}, which no feature can read',
    );
  });

  test("in a shipped revision is detected, even where the fingerprint is blind", () => {
    edit("history/transactions.v1/2.avsc", (fields) => {
      named(fields, "channel").default = "web";
    });
    const [problem] = checkSchemas(folder);
    expect(problem.code).toBe("shipped_edited");
    expect(problem.message).toContain("revision 2 of transactions.v1 was edited after it was shipped");
    expect(problem.repair).toBe(
      "restore history/transactions.v1/2.avsc from version control, and make the change in transactions.v1.avsc",
    );
  });

  test("that loses a shipped revision, or invents one, is refused", () => {
    rmSync(join(path, "history/transactions.v1/1.avsc"));
    cpSync(join(path, "labels.v1.avsc"), join(path, "history/labels.v1/7.avsc"));
    expect(found()).toEqual([
      ["labels.v1", "history_unregistered", undefined],
      ["transactions.v1", "history_missing", undefined],
    ]);
  });

  test("that removes a shipped contract is refused", () => {
    rmSync(join(path, "clicks.v1.avsc"));
    expect(found()).toEqual([["clicks.v1", "contract_removed", undefined]]);
  });

  test("that adds a contract waits for its release", () => {
    cpSync(join(path, "labels.v1.avsc"), join(path, "refunds.v1.avsc"));
    expect(found()).toEqual([
      ["refunds.v1", "contract_unreleased", undefined],
      ["schemas", "generated_stale", undefined],
    ]);
  });

  test("in a generated module is detected", () => {
    writeFileSync(join(path, "contracts.ts"), `${readFileSync(join(path, "contracts.ts"), "utf8")}\n`);
    expect(checkSchemas(folder)[0].message).toBe("contracts.ts is not what the contracts generate");
  });

  test("under a weaker mode is taken", () => {
    edit("labels.v1.avsc", (fields) => fields.splice(4, 1));
    expect(found()).toEqual([["labels.v1", "field_removed", "is_fraud"]]);
    folder.setCompatibility("labels.v1", "backward");
    expect(found().map(([, code]) => code)).toEqual(["change_unreleased", "generated_stale"]);
  });
});

test("golden bytes of a release use every field", () => {
  const schema = new SchemaFolder().current("feature_events.v1");
  expect(goldenEvent("feature_events.v1", 1, schema).written).toEqual({
    tenant: "default",
    event_id: "event_id ü",
    entity_id: "entity_id ü",
    event_type: "event_type ü",
    value: 4.1,
    timestamp: 1_767_225_600_005,
    metadata: { city: "Köln" },
  });
});
