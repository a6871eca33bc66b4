import { type GetObjectCommand, NoSuchKey, PutObjectCommand } from "@aws-sdk/client-s3";
import { expect, test } from "vitest";
import { StoredSchemas } from "../../../adapters/schema-registry/stored-schemas.ts";
import { InfrastructureError } from "../../../core/errors.ts";

/** A bucket of one process. */
function bucket() {
  const objects = new Map<string, string>();
  const send = async (command: unknown) => {
    if (command instanceof PutObjectCommand) return void objects.set(command.input.Key!, String(command.input.Body));
    const text = objects.get((command as GetObjectCommand).input.Key!);
    if (text === undefined) throw new NoSuchKey({ message: "none", $metadata: {} });
    return { Body: { transformToString: async () => text } };
  };
  const of = (registry: string) => new StoredSchemas({ bucket: "b", s3: { send } as never, registry });
  return { objects, of };
}

test("a schema is found again under its registry's name alone", async () => {
  const { objects, of } = bucket();
  await of("https://a").put("confluent-7", { text: '{"a":1}' });
  await of("https://a").put("confluent-8", { text: null });
  expect(await of("https://a").get("confluent-7")).toEqual({ text: '{"a":1}' });
  expect(await of("https://a").get("confluent-8")).toEqual({ text: null });
  expect(await of("https://b").get("confluent-7")).toBe(null);
  // SHA-256 of the registry's name, and the form that stays readable.
  expect([...objects][0]).toEqual([
    "schemas/registry=44f833239a3830c0/confluent-7.json",
    '{"v":2,"id":"confluent-7","text":"{\\"a\\":1}"}',
  ]);
});

test("what version 1 had is read on; what it had no text for may have been one that refers to others", async () => {
  const { objects, of } = bucket();
  await of("r").put("confluent-1", { text: null });
  const [key] = [...objects.keys()];
  objects.set(key!, '{"v":1,"id":"confluent-1","text":"t"}');
  expect(await of("r").get("confluent-1")).toEqual({ text: "t" });
  objects.set(key!, '{"v":1,"id":"confluent-1","text":null}');
  expect(await of("r").get("confluent-1")).toBe(null);
});

test.each(["", "{", "null", '{"v":3,"text":"x"}', '{"v":2,"text":7}', '{"v":2}'])(
  "an object that holds %j is asked for again",
  async (content) => {
    const { objects, of } = bucket();
    await of("r").put("glue-x", { text: "t" });
    for (const key of objects.keys()) objects.set(key, content);
    expect(await of("r").get("glue-x")).toBe(null);
  },
);

test("a bucket that does not answer blocks", async () => {
  const s3 = { send: () => Promise.reject(new Error("ECONNRESET")) } as never;
  const stored = new StoredSchemas({ bucket: "b", s3, registry: "r" });
  for (const run of [() => stored.get("x"), () => stored.put("x", { text: "t" })]) {
    await expect(run()).rejects.toThrow(InfrastructureError);
    await expect(run()).rejects.toThrow("bucket b failed");
  }
});
