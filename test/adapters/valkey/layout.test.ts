/** Stored bytes, written down: what is read here was shipped, and has to be read for ever. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as layout from "../../../adapters/valkey/layout.ts";

const golden = JSON.parse(
  readFileSync(new URL("../../fixtures/golden/valkey/v1.layout.json", import.meta.url), "utf8"),
);
const hex = (bytes: Buffer) => bytes.toString("hex");
const bytesOf = (text: string) => Buffer.from(text, "hex");

describe("golden bytes", () => {
  it("of keys", () => {
    for (const { tenant, entity, stream, id, bucket, key } of golden.keys) {
      expect(layout.bucketOf(tenant, entity, id)).toBe(bucket);
      expect(layout.entityKey(bucket, tenant, entity, stream, id)).toBe(key);
      expect(layout.parseEntityKey(Buffer.from(key))).toEqual({ tenant, entity, stream, id });
    }
    expect(layout.controlKey(golden.controlKey.bucket)).toBe(golden.controlKey.key);
  });

  it("of control hashes", () => {
    for (const { epoch, state, run, bytes } of golden.control) {
      expect(hex(layout.encodeControl(epoch, state, run))).toBe(bytes);
      expect(layout.decodeControl(bytesOf(bytes))).toEqual({ epoch, state, run: bytesOf(run) });
    }
    for (const { sealIndex, births, bytes } of golden.groupControl) {
      expect(hex(layout.encodeGroupControl(sealIndex, births))).toBe(bytes);
      expect(layout.decodeGroupControl(bytesOf(bytes))).toEqual({ sealIndex, births });
    }
  });

  it("of field names", () => {
    const { tile, object, meta, absorbed, absorbedObject, pre, preObject } = golden.fields;
    expect(hex(layout.tileField(tile.level, tile.index))).toBe(tile.bytes);
    expect(hex(layout.objectField(object.slot, object.level, object.index))).toBe(object.bytes);
    expect(hex(layout.META_FIELD)).toBe(meta);
    expect(hex(layout.ABSORBED_FIELD)).toBe(absorbed);
    expect(hex(layout.absorbedObjectField(absorbedObject.slot))).toBe(absorbedObject.bytes);
    expect(hex(layout.PRE_FIELD)).toBe(pre);
    expect(hex(layout.preObjectField(preObject.slot))).toBe(preObject.bytes);
  });

  it("of an entity's head", () => {
    const { bytes, ...meta } = golden.meta;
    expect(layout.decodeMeta(bytesOf(bytes))).toEqual(meta);
  });

  it("of first and last values", () => {
    for (const { value, bytes } of golden.scalars) {
      expect(hex(layout.encodeScalar(value))).toBe(bytes);
      expect(layout.decodeScalar(bytesOf(bytes))).toBe(value);
    }
    expect(hex(layout.encodeScalar(-0))).toBe(hex(layout.encodeScalar(0)));
  });
});

describe("keys", () => {
  const part = fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 12 }),
    fc.stringMatching(/^[0-9:{}]{1,8}$/),
  );
  const tenant = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,9}$/);
  const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,9}$/);
  const parts = fc.tuple(tenant, name, name, part);

  it("are read back into their parts, whatever an id holds", () => {
    fc.assert(
      fc.property(parts, ([tenant_, entity, stream, id]) => {
        const key = layout.entityKey(layout.bucketOf(tenant_, entity, id), tenant_, entity, stream, id);
        expect(layout.parseEntityKey(Buffer.from(key))).toEqual({ tenant: tenant_, entity, stream, id });
      }),
    );
  });

  it("of different entities differ", () => {
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        const same = JSON.stringify(a) === JSON.stringify(b);
        expect(layout.entityKey(1, ...a) === layout.entityKey(1, ...b)).toBe(same);
      }),
    );
  });

  it("fall evenly into 1,024 buckets, all streams of an entity into one", () => {
    const counts = new Array<number>(layout.BUCKETS).fill(0);
    for (let n = 0; n < 102_400; n++) counts[layout.bucketOf("default", "card", `card-${n}`)]++;
    expect(Math.min(...counts)).toBeGreaterThan(55);
    expect(Math.max(...counts)).toBeLessThan(150);
  });

  it.each([
    "",
    "ctl",
    "{1}",
    "{1}ctl",
    "{1}3:abc",
    "{1}x:abc4:card3:txs1:a",
    "{1}9:abc4:card3:txs1:a",
    "1}3:abc4:card3:txs1:a",
  ])("%j is no entity's", (key) => {
    expect(layout.parseEntityKey(Buffer.from(key))).toBeNull();
  });
});
