import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bodyOf, framedValue, framingOf, reframe } from "../../../adapters/avro/framing.ts";
import { RecordError } from "../../../core/errors.ts";

const UUID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
const uuidHex = UUID.replaceAll("-", "");
const body = Buffer.from("an avro body");
const singleObject = Buffer.concat([Buffer.from("c301", "hex"), Buffer.alloc(8, 7), body]);

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof RecordError) return error.code;
    throw error;
  }
  return "nothing was thrown";
}

/** By hand, from the formats' descriptions. */
const GOLDEN: [name: string, id: string, hex: string][] = [
  ["Confluent", "confluent-66051", `0000010203${body.toString("hex")}`],
  ["the largest id", "confluent-4294967295", `00ffffffff${body.toString("hex")}`],
  ["Confluent with a GUID", `confluent-${UUID}`, `01${uuidHex}${body.toString("hex")}`],
  ["Glue", `glue-${UUID}`, `0300${uuidHex}${body.toString("hex")}`],
];

describe("framing", () => {
  test.each(GOLDEN)("of %s is read and written byte for byte", (_, id, hex) => {
    const bytes = Buffer.from(hex, "hex");
    const framed = framingOf(bytes)!;
    expect(framed.id).toBe(id);
    expect(bodyOf(bytes, framed).equals(body)).toBe(true);
    expect(reframe(singleObject, id).toString("hex")).toBe(hex);
  });

  test("of Glue with zlib is opened", () => {
    const bytes = reframe(singleObject, `glue-${UUID}`, true);
    expect(bytes.subarray(0, 18).toString("hex")).toBe(`0305${uuidHex}`);
    expect(bytes.subarray(18).equals(deflateSync(body))).toBe(true);
    expect(bodyOf(bytes, framingOf(bytes)!).equals(body)).toBe(true);
  });

  test("in a record's header is the one with a GUID before the body", () => {
    const header = Buffer.from(`01${uuidHex}`, "hex");
    const named = (name: string, content: Buffer) =>
      framedValue(body, [
        ["trace", header],
        [name, content],
      ]);
    expect(framingOf(named("__value_schema_id", header))).toEqual({
      ...{ id: `confluent-${UUID}`, bodyStart: 17, compressed: false },
    });
    expect(named("__value_schema_id", header).subarray(17)).toEqual(body);
    // Of the key, cut, in the other form, or none.
    for (const other of [
      named("__key_schema_id", header),
      named("__value_schema_id", header.subarray(0, 16)),
      named("__value_schema_id", Buffer.from(`00${uuidHex}`, "hex")),
      framedValue(body, []),
    ]) {
      expect(other).toBe(body);
    }
  });

  test("is none of single objects, heartbeats, JSON, other compressions and cut headers", () => {
    const cut = GOLDEN.flatMap(([, id, hex]) =>
      Array.from({ length: framingOf(reframe(singleObject, id))!.bodyStart }, (_, n) => hex.slice(0, 2 * n)),
    );
    const others = [
      singleObject.toString("hex"),
      Buffer.from("{}").toString("hex"),
      `0301${uuidHex}00`,
      `02${uuidHex}`,
    ];
    for (const hex of [...cut, ...others]) expect([hex, framingOf(Buffer.from(hex, "hex"))]).toEqual([hex, null]);
  });

  test("goes there and back for any body", () => {
    const id = fc.oneof(
      fc.nat({ max: 2 ** 32 - 1 }).map((n) => `confluent-${n}`),
      fc.uuid().map((uuid) => `confluent-${uuid}`),
      fc.uuid().map((uuid) => `glue-${uuid}`),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), id, fc.boolean(), (bytes, name, compress) => {
        const framed = reframe(Buffer.concat([singleObject.subarray(0, 10), bytes]), name, compress);
        const found = framingOf(framed)!;
        expect(found.id).toBe(name);
        expect(bodyOf(framed, found).equals(bytes)).toBe(true);
      }),
    );
  });
});

describe("a compressed body", () => {
  const compressed = (inner: Buffer) => {
    const bytes = reframe(Buffer.concat([singleObject.subarray(0, 10), inner]), `glue-${UUID}`, true);
    return () => bodyOf(bytes, framingOf(bytes)!);
  };

  test("of a million zeros in a kilobyte is not inflated", () => {
    expect(codeOf(compressed(Buffer.alloc(1_000_000)))).toBe("record_too_large");
  });

  test("of more than an event may have is refused, whatever it compresses to", () => {
    let state = 1;
    const noise = Buffer.from(
      Uint8Array.from({ length: 1_100_000 }, () => (state = (state * 48271) % 2147483647) & 255),
    );
    expect(codeOf(compressed(noise))).toBe("record_too_large");
    expect(compressed(noise.subarray(0, 1_000_000))().length).toBe(1_000_000);
  });

  test("that is small may compress as well as it likes", () => {
    expect(compressed(Buffer.alloc(4_096))().length).toBe(4_096);
  });

  test("that is cut, altered or none at all is corrupt, and its message tells nothing of it", () => {
    const whole = reframe(singleObject, `glue-${UUID}`, true);
    const altered = Buffer.from(whole);
    altered[altered.length - 1] ^= 0xff;
    for (const bytes of [whole.subarray(0, -3), altered, whole.subarray(0, 18)]) {
      expect(codeOf(() => bodyOf(bytes, framingOf(bytes)!))).toBe("framing_corrupt");
    }
  });
});
