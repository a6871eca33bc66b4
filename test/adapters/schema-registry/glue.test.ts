/** Glue by its published model: no emulator here has its schema registry. Each request is checked by the service's own shapes. */
import {
  AccessDeniedException,
  EntityNotFoundException,
  GetSchemaVersionCommand,
  InvalidInputException,
} from "@aws-sdk/client-glue";
import { describe, expect, test } from "vitest";
import { GlueRegistry } from "../../../adapters/schema-registry/glue.ts";
import { pushSubject } from "../../../adapters/schema-registry/push.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import { shipped } from "../../../schemas/shipped.ts";
import { shapeErrors } from "../../support/aws-request.ts";

const UUID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
const none = new EntityNotFoundException({ message: "not found", $metadata: {} });

interface Schema {
  compatibility: string;
  versions: { id: string; text: string; status: string }[];
}
/** The registry, as far as it is asked: answers by operation, and the requests that it got. */
function glue(options: { registry?: string; taken?: string; check?: (text: string) => string } = {}) {
  const schemas = new Map<string, Schema>();
  const requests: { operation: string; input: any }[] = [];
  const added = (schema: Schema, text: string) => {
    const version = {
      id: UUID.replace(/..$/, String(10 + schema.versions.length)),
      text,
      status: options.taken ?? "AVAILABLE",
    };
    schema.versions.push(version);
    return version;
  };
  const answers: Record<string, (input: any, schema: Schema | undefined) => unknown> = {
    GetSchemaVersion({ SchemaVersionId, SchemaVersionNumber }, schema) {
      const versions = [...schemas.values()].flatMap((each) => each.versions);
      const found =
        schema?.versions[SchemaVersionNumber?.VersionNumber - 1] ?? versions.find(({ id }) => id === SchemaVersionId);
      if (found === undefined) throw none;
      if (found.status === "PENDING") found.status = options.check?.(found.text) ?? "AVAILABLE";
      return { SchemaDefinition: found.text, DataFormat: "AVRO", Status: found.status };
    },
    GetSchemaByDefinition({ SchemaDefinition }, schema) {
      const found = schema?.versions.find(({ text }) => text === SchemaDefinition);
      if (found === undefined) throw none;
      return { SchemaVersionId: found.id, Status: found.status };
    },
    ListSchemaVersions(_, schema) {
      if (schema === undefined) throw none;
      return { Schemas: schema.versions.map(({ status }, i) => ({ VersionNumber: i + 1, Status: status })) };
    },
    GetSchema(_, schema) {
      if (schema === undefined) throw none;
      return { Compatibility: schema.compatibility };
    },
    UpdateSchema({ Compatibility }, schema) {
      if (schema === undefined) throw none;
      schema.compatibility = Compatibility;
      return {};
    },
    RegisterSchemaVersion({ SchemaDefinition }, schema) {
      if (schema === undefined) throw none;
      const { id, status } = added(schema, SchemaDefinition);
      return { SchemaVersionId: id, Status: status };
    },
    CreateSchema({ SchemaName, Compatibility, SchemaDefinition, RegistryId }) {
      if (RegistryId.RegistryName !== (options.registry ?? "freshet")) throw none;
      const schema: Schema = { compatibility: Compatibility, versions: [] };
      schemas.set(SchemaName, schema);
      const { id, status } = added(schema, SchemaDefinition);
      return { SchemaVersionId: id, SchemaVersionStatus: status };
    },
  };
  const client = {
    async send(command: any) {
      const operation = command.constructor.name.replace(/Command$/, "");
      requests.push({ operation, input: command.input });
      return answers[operation]!(command.input, schemas.get(command.input.SchemaId?.SchemaName));
    },
  };
  const registry = new GlueRegistry({ registry: "freshet", client: client as never, pause: async () => {} });
  return { registry, schemas, requests };
}
const answering = (answer: () => unknown) =>
  new GlueRegistry({ registry: "freshet", client: { send: async () => answer() } as never });
async function failureOf(run: () => Promise<unknown>): Promise<FreshetError> {
  try {
    await run();
  } catch (error) {
    if (error instanceof FreshetError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
const subject = {
  ...{ contract: "clicks.v1", subject: "freshet-prod-clicks", compatibility: "full-transitive" as const },
  shipped: shipped["clicks.v1"]!,
};

describe("a version", () => {
  test("is found by its id", async () => {
    const found = { SchemaDefinition: "{}", DataFormat: "AVRO", Status: "AVAILABLE" };
    expect(await answering(() => found).find(`glue-${UUID}`)).toEqual({ text: "{}" });
    expect(await answering(() => ({ ...found, Status: "DELETING" })).find(`glue-${UUID}`)).toEqual({ text: "{}" });
    expect(await answering(() => ({ ...found, DataFormat: "JSON" })).find(`glue-${UUID}`)).toEqual({ text: null });
  });

  test("is none when Glue says so, when its check has failed, and when the id is not Glue's", async () => {
    const missing = answering(() => {
      throw none;
    });
    expect(await missing.find(`glue-${UUID}`)).toBe(null);
    expect(await answering(() => ({ Status: "FAILURE", SchemaDefinition: "{}" })).find(`glue-${UUID}`)).toBe(null);
    expect(await answering(() => ({ Status: "AVAILABLE", SchemaDefinition: "{}" })).find("confluent-7")).toBe(null);
  });

  test.each<[string, () => unknown]>([
    ["no permission", () => Promise.reject(new AccessDeniedException({ message: "no", $metadata: {} }))],
    ["no answer", () => Promise.reject(new Error("socket hang up"))],
    ["a check that is still going on", () => ({ Status: "PENDING", SchemaDefinition: "{}" })],
    ["a version without a definition", () => ({ Status: "AVAILABLE" })],
  ])("is not known by %s", async (_, answer) => {
    const error = await failureOf(() => answering(answer).find(`glue-${UUID}`));
    expect(error).toBeInstanceOf(InfrastructureError);
    expect(error.code).toBe("schema_registry_unavailable");
  });
});

describe("a push", () => {
  test("makes the schema under its rule, adds versions in order, and changes nothing the second time", async () => {
    const { registry, schemas, requests } = glue();
    const first = await pushSubject(registry, subject, false);
    expect(first.versions.map(({ status }) => status)).toEqual(["new", "new", "new"]);
    expect(first.rule).toEqual({ was: null, is: "FULL_ALL" });
    const made = schemas.get("freshet-prod-clicks")!;
    expect([made.compatibility, made.versions.map(({ text }) => text)]).toEqual([
      "FULL_ALL",
      subject.shipped.map(({ schema }) => JSON.stringify(schema)),
    ]);
    made.compatibility = "NONE";
    const again = await pushSubject(registry, subject, false);
    expect(again.versions).toEqual(first.versions.map((version) => ({ ...version, status: "unchanged" })));
    expect([again.rule, made.compatibility]).toEqual([{ was: "NONE", is: "FULL_ALL" }, "FULL_ALL"]);
    expect(made.versions).toHaveLength(3);
    const kinds = new Map(requests.map((request) => [request.operation, request]));
    expect([...kinds.keys()].sort()).toEqual([
      "CreateSchema",
      "GetSchema",
      "GetSchemaByDefinition",
      "GetSchemaVersion",
      "ListSchemaVersions",
      "RegisterSchemaVersion",
      "UpdateSchema",
    ]);
    // The others hold nothing that these do not: each takes a process of Python.
    for (const operation of ["CreateSchema", "UpdateSchema"]) {
      expect([operation, shapeErrors("glue", operation, kinds.get(operation)!.input)]).toEqual([operation, []]);
    }
    const byId = new GetSchemaVersionCommand({ SchemaVersionId: UUID });
    expect(shapeErrors("glue", "GetSchemaVersion", byId.input)).toEqual([]);
  });

  test("of nothing changes nothing when it is dry", async () => {
    const { registry, schemas, requests } = glue();
    expect((await pushSubject(registry, subject, true)).versions.map(({ status }) => status)).toEqual(
      Array(3).fill("new"),
    );
    expect(schemas.size).toBe(0);
    expect(requests.filter(({ operation }) => /^(Create|Register|Update)/.test(operation))).toEqual([]);
  });

  test("waits for Glue's own check, and says when it has failed", async () => {
    const passing = glue({ taken: "PENDING" });
    expect((await pushSubject(passing.registry, subject, false)).versions).toHaveLength(3);
    const failing = glue({ taken: "PENDING", check: (text) => (text.includes("dwell_ms") ? "FAILURE" : "AVAILABLE") });
    const error = await failureOf(() => pushSubject(failing.registry, subject, false));
    expect([error.code, error.message]).toEqual([
      "schema_refused",
      "the registry refuses the schema under freshet-prod-clicks: it breaks the schema's compatibility rule",
    ]);
  });

  test("into a registry that is not there says how to make it", async () => {
    const error = await failureOf(() => pushSubject(glue({ registry: "another" }).registry, subject, false));
    expect([error.code, error.repair]).toEqual([
      "schema_registry_missing",
      "aws glue create-registry --registry-name freshet",
    ]);
  });

  test("of what Glue finds invalid says so in Glue's words", async () => {
    const refusing = answering(() => {
      throw new InvalidInputException({ message: "Schema definition of AVRO data format is invalid", $metadata: {} });
    });
    const error = await failureOf(() => refusing.register({ subject: "s", text: "{}" }, "FULL_ALL"));
    expect(error.message).toBe(
      "the registry refuses the schema under s: Schema definition of AVRO data format is invalid",
    );
  });
});
