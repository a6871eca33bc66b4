import { describe, expect, test } from "vitest";
import { registryAddress } from "../../../adapters/schema-registry/address.ts";
import type { FoundSchema } from "../../../adapters/schema-registry/schema-registry.ts";
import { WriterSchemas } from "../../../adapters/schema-registry/writer-schemas.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";

/** A registry and a bucket that say what was asked of them, and can be away. */
function world() {
  const registered = new Map<string, FoundSchema>();
  const bucket = new Map<string, FoundSchema>();
  const calls: string[] = [];
  const away = { registry: false, bucket: false };
  const clock = { nowMs: 1_000 };
  const answer = async <T>(what: "registry" | "bucket", call: string, value: () => T): Promise<T> => {
    if (away[what]) throw new InfrastructureError(`${what}_away`, "away");
    calls.push(call);
    return value();
  };
  const start = () =>
    new WriterSchemas({
      registry: {
        name: "test",
        find: (id) => answer("registry", `find ${id}`, () => registered.get(id) ?? null),
      },
      stored: {
        get: (id) => answer("bucket", `get ${id}`, () => bucket.get(id) ?? null),
        put: (id, found) => answer("bucket", `put ${id}`, () => bucket.set(id, found)),
      },
      clock: () => clock.nowMs,
    });
  return { registered, bucket, calls, away, clock, start };
}
const codeOf = async (run: () => unknown): Promise<string> => {
  try {
    await run();
  } catch (error) {
    return error instanceof FreshetError ? error.code : String(error);
  }
  return "nothing was thrown";
};

describe("a writer's schema", () => {
  test("is asked for once, and stored before it is used", async () => {
    const { registered, calls, start } = world();
    registered.set("confluent-1", { text: "one" });
    const schemas = start();
    await schemas.learn(["confluent-1", "confluent-1"]);
    await schemas.learn(["confluent-1"]);
    expect(schemas.get("confluent-1")).toEqual({ text: "one" });
    expect(calls).toEqual(["get confluent-1", "find confluent-1", "put confluent-1"]);
  });

  test("is asked for once by batches at the same time", async () => {
    const { registered, calls, start } = world();
    registered.set("confluent-1", { text: "one" });
    const schemas = start();
    await Promise.all([schemas.learn(["confluent-1"]), schemas.learn(["confluent-1"])]);
    expect(calls.filter((call) => call.startsWith("find"))).toEqual(["find confluent-1"]);
  });

  test("is there in a new process while the registry is away", async () => {
    const { registered, away, start } = world();
    registered.set("confluent-1", { text: "one" });
    await start().learn(["confluent-1"]);
    away.registry = true;
    const later = start();
    await later.learn(["confluent-1"]);
    expect(later.get("confluent-1")).toEqual({ text: "one" });
  });

  test("that nobody has met blocks while the registry is away, and those that are known go on", async () => {
    const { registered, away, start } = world();
    registered.set("confluent-1", { text: "one" }).set("confluent-2", { text: "two" });
    const schemas = start();
    await schemas.learn(["confluent-1"]);
    away.registry = true;
    await schemas.learn(["confluent-1"]);
    expect(await codeOf(() => schemas.learn(["confluent-1", "confluent-2"]))).toBe("registry_away");
    expect(await codeOf(() => schemas.get("confluent-2"))).toBe("schema_registry_unavailable");
    away.registry = false;
    await schemas.learn(["confluent-1", "confluent-2"]);
    expect(schemas.get("confluent-2")).toEqual({ text: "two" });
  });

  test("that cannot be stored is not used", async () => {
    const { registered, away, start, calls } = world();
    registered.set("confluent-1", { text: "one" });
    away.bucket = true;
    const schemas = start();
    expect(await codeOf(() => schemas.learn(["confluent-1"]))).toBe("bucket_away");
    expect(await codeOf(() => schemas.get("confluent-1"))).toBe("schema_registry_unavailable");
    away.bucket = false;
    await schemas.learn(["confluent-1"]);
    expect(calls).toEqual(["get confluent-1", "find confluent-1", "put confluent-1"]);
  });

  test("that the registry does not have is asked for again after half a minute", async () => {
    const { registered, calls, clock, start } = world();
    const schemas = start();
    await schemas.learn(["glue-x"]);
    expect(schemas.get("glue-x")).toBe(null);
    registered.set("glue-x", { text: "x" });
    clock.nowMs += 29_000;
    await schemas.learn(["glue-x"]);
    expect(schemas.get("glue-x")).toBe(null);
    clock.nowMs += 2_000;
    await schemas.learn(["glue-x"]);
    expect(schemas.get("glue-x")).toEqual({ text: "x" });
    expect(calls.filter((call) => call.startsWith("find"))).toHaveLength(2);
  });

  test("is known among more made-up ids than are kept", async () => {
    const { registered, start } = world();
    registered.set("confluent-1", { text: "one" });
    const schemas = start();
    for (const base of [10, 20_000]) {
      const ids = ["confluent-1", ...Array.from({ length: 12_000 }, (_, i) => `confluent-${base + i}`)];
      await schemas.learn(ids);
      expect(ids.map((id) => schemas.get(id)?.text ?? null).filter(Boolean)).toEqual(["one"]);
    }
  });
});

describe("a registry's address", () => {
  test.each([
    ["https://registry.example.com", { url: "https://registry.example.com" }],
    [
      "https://registry.example.com:8443/apis/ccompat/v7/",
      { url: "https://registry.example.com:8443/apis/ccompat/v7" },
    ],
    ["http://127.0.0.1:8081", { url: "http://127.0.0.1:8081" }],
    ["glue:freshet-prod", { glue: "freshet-prod" }],
  ])("%s is taken", (given, address) => expect(registryAddress(given)).toEqual(address));

  test.each([
    [
      "http://registry.example.com",
      "http://registry.example.com is neither https nor this machine: schemas decide what events mean",
    ],
    [
      "https://user:secret@registry.example.com",
      "a schema registry's address has no credentials and no query: addresses are written into logs",
    ],
    [
      "https://registry.example.com?token=secret",
      "a schema registry's address has no credentials and no query: addresses are written into logs",
    ],
    ["glue:", "after glue: comes the name of a Glue registry"],
    ["registry.example.com", "a schema registry is an http address, or glue:<name>"],
  ])("%s is refused", async (given, message) => {
    expect(() => registryAddress(given)).toThrow(message);
    expect(await codeOf(() => registryAddress(given))).toBe("schema_registry_invalid");
  });
});
