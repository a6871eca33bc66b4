import { readFileSync } from "node:fs";
import { join } from "node:path";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type ArchiveRow,
  archiveRowFormatter,
  encodeArchive,
  readArchive,
} from "../../../adapters/archive/archive-format.ts";
import { tenantPartition } from "../../../adapters/s3/object-path.ts";
import { runs } from "../../support/runs.ts";

const GOLDEN = join(import.meta.dirname, "..", "..", "fixtures", "golden", "archive-v1.ndjson.zst");

const APPLIED: ArchiveRow = {
  tenant: "default",
  stream: "transactions",
  eventId: "tx-1",
  eventTimeMs: 1_795_248_000_123,
  identity: "00ff12ab34cd56ef",
  arrivalMs: 1_795_248_000_456,
  shard: "shardId-000000000001",
  sequence: "49590338271490256608559692538361571095921575989136588898",
  subSequence: 7,
  fields: { tenant: "default", transaction_id: "tx-1", amount: 12.5, device_id: null, ok: true, metadata: { a: "1" } },
  fates: [
    { entity: "card", id: 'c "1"', fate: "applied", visibleMs: 1_795_248_000_999 },
    { entity: "merchant", id: "m\u00fc\u{1f600}", fate: "duplicate", visibleMs: 1_795_247_999_000 },
    { entity: "device", id: "d1", fate: "late", visibleMs: null },
  ],
};
const REFUSED: ArchiveRow = {
  tenant: null,
  stream: "transactions",
  eventId: null,
  eventTimeMs: null,
  identity: null,
  arrivalMs: 1_795_248_000_457,
  shard: "shardId-000000000001",
  sequence: "49590338271490256608559692538361571095921575989136588899",
  subSequence: 0,
  reason: "avro_truncated",
  fields: null,
  fates: [],
};

const LINES = [
  '{"v":1,"tenant":"default","stream":"transactions","shard":"shardId-000000000001",' +
    '"sequence":"49590338271490256608559692538361571095921575989136588898","sub_sequence":7,"arrival_ms":1795248000456,' +
    '"event_id":"tx-1","event_time_ms":1795248000123,"identity":"00ff12ab34cd56ef",' +
    '"fields":{"tenant":"default","transaction_id":"tx-1","amount":12.5,"device_id":null,"ok":true,"metadata":{"a":"1"}},' +
    '"fates":[{"entity":"card","id":"c \\"1\\"","fate":"applied","visible_ms":1795248000999},' +
    '{"entity":"merchant","id":"m\u00fc\u{1f600}","fate":"duplicate","visible_ms":1795247999000},' +
    '{"entity":"device","id":"d1","fate":"late","visible_ms":null}]}\n',
  '{"v":1,"tenant":null,"stream":"transactions","shard":"shardId-000000000001",' +
    '"sequence":"49590338271490256608559692538361571095921575989136588899","sub_sequence":0,"arrival_ms":1795248000457,' +
    '"event_id":null,"event_time_ms":null,"identity":null,"reason":"avro_truncated","fields":null,"fates":[]}\n',
];

const compress = (text: string): Buffer => zstdCompressSync(text, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
const codeAndMessage = (read: () => unknown): { code: string; message: string } => {
  try {
    read();
  } catch (error) {
    return { code: (error as { code: string }).code, message: (error as Error).message };
  }
  throw new Error("nothing was thrown");
};

describe("archive format, version 1", () => {
  test("a row's line is these bytes", () => {
    const format = archiveRowFormatter();
    expect(format(APPLIED)).toBe(LINES[0]);
    expect(format(REFUSED)).toBe(LINES[1]);
  });

  test("the first object ever written still decodes", () => {
    const bytes = readFileSync(GOLDEN);
    expect([...readArchive(bytes)]).toEqual([APPLIED, REFUSED]);
    expect(zstdDecompressSync(bytes).toString()).toBe(LINES.join(""));
  });

  test("rows of several tenants and shards in a row keep their own", () => {
    const rows = [APPLIED, { ...APPLIED, tenant: "acme" }, { ...APPLIED, shard: "shardId-000000000002" }, APPLIED];
    expect([...readArchive(encodeArchive(rows))]).toEqual(rows);
  });

  test("a line is the row's own JSON, whatever rows one formatter has written before", () => {
    // Few of each, so that neighbours share some and not others.
    const word = fc.constantFrom("a", 'b"', "c\n", "\ud800", "ü");
    const orNull = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: null, freq: 5 });
    const fate = fc.record({
      entity: fc.constantFrom("card", "merchant", "device"),
      id: word,
      fate: fc.constantFrom("applied" as const, "duplicate" as const, "late" as const),
      visibleMs: orNull(fc.integer({ min: 1, max: 5_000 })),
    });
    const row: fc.Arbitrary<ArchiveRow> = fc.record(
      {
        ...{ tenant: orNull(word), stream: word, shard: word, sequence: word, subSequence: fc.nat(2) },
        ...{ arrivalMs: fc.nat(3), eventId: orNull(word), eventTimeMs: orNull(fc.nat(3)), identity: orNull(word) },
        ...{ fields: orNull(fc.record({ x: word })), fates: fc.array(fate, { maxLength: 4 }), reason: word },
      },
      {
        requiredKeys: [
          ...(["tenant", "stream", "shard", "sequence", "subSequence", "arrivalMs", "eventId", "eventTimeMs"] as const),
          ...(["identity", "fields", "fates"] as const),
        ],
      },
    );
    const json = (one: ArchiveRow): string => {
      const { tenant, stream, shard, sequence, reason, fields } = one;
      const fates = one.fates.map(({ entity, id, fate, visibleMs }) => ({ entity, id, fate, visible_ms: visibleMs }));
      const delivery = { sub_sequence: one.subSequence, arrival_ms: one.arrivalMs };
      const event = { event_id: one.eventId, event_time_ms: one.eventTimeMs, identity: one.identity };
      return `${JSON.stringify({ v: 1, tenant, stream, shard, sequence, ...delivery, ...event, reason, fields, fates })}\n`;
    };
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 40 }), (rows) => {
        expect(rows.map(archiveRowFormatter())).toEqual(rows.map(json));
      }),
      { seed: 20261121 },
    );
    // More visible times than are kept.
    const many = Array.from({ length: 10_000 }, (_, i) => ({
      ...APPLIED,
      fates: [{ ...APPLIED.fates[0]!, visibleMs: i % 7_000 }],
    }));
    const format = archiveRowFormatter();
    const wrong = many.filter((one) => format(one) !== json(one));
    expect(wrong).toEqual([]);
  });

  test("whatever a contract's fields hold comes back", () => {
    const scalar = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((x) => x + 0),
      fc.maxSafeInteger(),
      fc.boolean(),
      fc.constant(null),
      fc.dictionary(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })),
    );
    const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,12}$/);
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            fields: fc
              .uniqueArray(fc.tuple(name, scalar), { selector: ([key]) => key })
              .map((entries) => Object.fromEntries(entries)),
            id: fc.string({ unit: "binary" }),
          }),
          { maxLength: 60 },
        ),
        (events) => {
          const rows = events.map(({ fields, id }) => ({
            ...APPLIED,
            eventId: id,
            fields,
            fates: [{ entity: "card", id, fate: "applied" as const, visibleMs: 1 }],
          }));
          const back = [...readArchive(encodeArchive(rows))];
          expect(JSON.stringify(back)).toBe(JSON.stringify(rows.map((row) => ({ ...reordered(row) }))));
        },
      ),
      { numRuns: runs(200) },
    );
  });

  test("a batch larger than the first buffer comes back whole", () => {
    const rows = Array.from({ length: 3_000 }, (_, i) => ({
      ...APPLIED,
      subSequence: i,
      fields: { note: "\u20ac".repeat(400) },
    }));
    expect([...readArchive(encodeArchive(rows))]).toEqual(rows);
  });

  test("methods on a decoder's prototype are no fields", () => {
    class Decoded {
      amount = 1;
    }
    (Decoded.prototype as any).clone = () => null;
    const [row] = readArchive(encodeArchive([{ ...APPLIED, fields: new Decoded() as any }]));
    expect(row!.fields).toEqual({ amount: 1 });
  });

  test("numbers that JSON has not become null", () => {
    const fields = { a: Number.NaN, b: Number.POSITIVE_INFINITY, c: Number.NEGATIVE_INFINITY };
    const [row] = readArchive(encodeArchive([{ ...APPLIED, fields }]));
    expect(row!.fields).toEqual({ a: null, b: null, c: null });
  });

  test("an object of no rows is an object of no rows", () => {
    expect([...readArchive(encodeArchive([]))]).toEqual([]);
  });
});

describe("a damaged archive object says how it is damaged", () => {
  const whole = encodeArchive([APPLIED, REFUSED]);

  test("cut anywhere, it is truncated", () => {
    for (let length = 0; length < whole.length; length++) {
      expect(codeAndMessage(() => [...readArchive(whole.subarray(0, length))])).toEqual({
        code: "archive_truncated",
        message: `archive object of ${length} bytes ends inside its frame`,
      });
    }
  });

  test("cut before it was compressed, it is truncated", () => {
    const { code, message } = codeAndMessage(() => [...readArchive(compress(LINES[0]!.slice(0, -1)))]);
    expect(code).toBe("archive_truncated");
    expect(message).toBe("archive object ends inside a row");
  });

  test("bytes after the frame are not ignored, a second frame neither", () => {
    const { code, message } = codeAndMessage(() => [...readArchive(Buffer.concat([whole, Buffer.from("xy")]))]);
    expect([code, message]).toEqual(["archive_trailing", "archive object has 2 bytes after its frame"]);
    expect(codeAndMessage(() => [...readArchive(Buffer.concat([whole, whole]))]).code).toBe("archive_trailing");
  });

  test("a flipped bit is corruption, never other rows", () => {
    for (let at = 0; at < whole.length; at++) {
      const flipped = Buffer.from(whole);
      flipped[at]! ^= 0x10;
      let rows: unknown = null;
      let code = "";
      try {
        rows = [...readArchive(flipped)];
      } catch (error) {
        code = (error as { code: string }).code;
      }
      // Of the frame header some bits (the window's size) change nothing that is read.
      if (code === "") expect(rows).toEqual([APPLIED, REFUSED]);
      else expect(code).toMatch(/^archive_(corrupt|truncated|trailing)$/);
    }
  });

  test("what is not an archive object is told from a damaged one", () => {
    expect(codeAndMessage(() => [...readArchive(Buffer.from('{"v":1}\n'))])).toEqual({
      code: "archive_corrupt",
      message: "archive object is not a zstd frame with a right checksum",
    });
    expect(codeAndMessage(() => [...readArchive(compress("nonsense\n"))])).toEqual({
      code: "archive_corrupt",
      message: "row 1 of the archive object is not JSON",
    });
  });

  test("a newer version is refused, not guessed", () => {
    const { code, message } = codeAndMessage(() => [
      ...readArchive(compress(LINES[0]! + LINES[1]!.replace('"v":1', '"v":2'))),
    ]);
    expect([code, message]).toEqual([
      "archive_version",
      "row 2 of the archive object has version 2, this reader knows 1",
    ]);
  });

  test("an integer that a double cannot hold is refused", () => {
    const line = LINES[0]!.replace("1795248000123", "9007199254740993");
    expect(codeAndMessage(() => [...readArchive(compress(line))])).toEqual({
      code: "archive_precision",
      message: "event_time_ms of row 1 is not an exact integer",
    });
  });
});

describe("object paths", () => {
  test("a name that no tenant may have chooses no path, however it is spelt or long", () => {
    expect(tenantPartition("acme-2_eu")).toBe("acme-2_eu");
    for (const wrong of [null, "", "a/b", "../b", "_unattributed", "Acme", "a b", "a".repeat(65), "x".repeat(5_000)]) {
      expect(tenantPartition(wrong)).toBe("_unattributed");
    }
  });
});

/** Reader's property order, for a comparison of values as text that tells 0 from -0 and own from inherited. */
function reordered(row: ArchiveRow) {
  const { tenant, stream, eventId, eventTimeMs, identity, arrivalMs, shard, sequence, subSequence, fields, fates } =
    row;
  return { tenant, stream, eventId, eventTimeMs, identity, arrivalMs, shard, sequence, subSequence, fields, fates };
}
