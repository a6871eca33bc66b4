/** An object is one frame, however long it is: the lengths at which Node's zlib adds another, and what readers make of that. */
import { hash } from "node:crypto";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import {
  type ArchiveRow,
  encodeArchive,
  readArchive,
  verifyArchive,
} from "../../../adapters/archive/archive-format.ts";
import {
  encodeInferenceLog,
  inferenceLine,
  readInferenceLog,
} from "../../../adapters/inference-log/inference-log-format.ts";
import { oneFrame, readFrame } from "../../../adapters/s3/zstd-frame.ts";
import { inferenceRow } from "../../support/inference-row.ts";

const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_checksumFlag]: 1 };
const compress = (bytes: Uint8Array): Buffer => zstdCompressSync(bytes, { params: PARAMS });
/** Bytes in which zstd finds nothing to save. */
const NOISE = Buffer.concat(Array.from({ length: 700 }, (_, i) => hash("sha512", `noise ${i}`, "buffer")));
const CHUNK = 16_384;

/** Frames in a text of objects, by what zlib says that it has read of each. */
function frames(bytes: Buffer): number {
  let count = 0;
  for (let rest = bytes; rest.length > 0; count++) {
    const { engine } = zstdDecompressSync(rest, { info: true } as object) as unknown as {
      engine: { bytesWritten: number };
    };
    rest = rest.subarray(engine.bytesWritten);
  }
  return count;
}

/** Contents whose frames end around the ends of zlib's first and second chunk. */
const AROUND = [CHUNK, 2 * CHUNK].flatMap((end) =>
  Array.from({ length: 80 }, (_, i) => NOISE.subarray(0, end - 60 + i)),
);

describe("a compressed object", () => {
  test("of some lengths comes with an empty frame behind it, by either call of Node's", async () => {
    const bySync = AROUND.filter((content) => frames(compress(content)) === 2);
    const byCallback = [];
    for (const content of AROUND) {
      if (frames(await promisify(zstdCompress)(content, { params: PARAMS })) === 2) byCallback.push(content);
    }
    // Once Node has mended it there are none, and `oneFrame` may go.
    expect([bySync.length, byCallback.length]).toEqual([2, 2]);
  });

  test("is one frame, which holds all of it", async () => {
    for (const content of [...AROUND, Buffer.alloc(0), Buffer.from("x")]) {
      for (const given of [compress(content), await promisify(zstdCompress)(content, { params: PARAMS })]) {
        const object = oneFrame(given);
        expect([content.length, frames(object)]).toEqual([content.length, 1]);
        expect(zstdDecompressSync(object).equals(content)).toBe(true);
      }
    }
  });

  test("is read with an empty frame behind it, and with nothing else", () => {
    const content = AROUND.find((one) => frames(compress(one)) === 2)!;
    const [whole, mended] = [compress(content), oneFrame(compress(content))];
    const trailing = (bytes: Uint8Array) => readFrame(bytes).trailing;
    expect([trailing(whole), trailing(mended)]).toEqual([0, 0]);
    expect(readFrame(whole).body.equals(content)).toBe(true);
    expect(trailing(Buffer.concat([whole, Buffer.from("x")]))).toBe(14);
    expect(trailing(Buffer.concat([mended, compress(Buffer.from("more"))]))).toBeGreaterThan(13);
  });
});

const TEXT = NOISE.toString("base64");

/** Encodes texts that fill the chunk by a few bytes more or less, until one has filled it to the byte. */
async function fillTheChunk(encode: (text: string) => Promise<Buffer>, check: (object: Buffer, text: string) => void) {
  let [least, most] = [0, TEXT.length];
  while (most - least > 1) {
    const middle = (least + most) >> 1;
    if ((await encode(TEXT.slice(0, middle))).length < CHUNK) least = middle;
    else most = middle;
  }
  for (let skipped = 0, length = 0; length !== CHUNK; skipped++) {
    const text = TEXT.slice(skipped, skipped + most);
    const object = await encode(text);
    check(object, text);
    length = object.length;
    expect(skipped).toBeLessThan(2_000);
  }
}

test("an archive object is read back, though it fills the chunk", async () => {
  const row = (text: string): ArchiveRow => ({
    ...{ tenant: "default", stream: "transactions", eventId: "t", eventTimeMs: 1, identity: "0", arrivalMs: 2 },
    ...{ shard: "shardId-000000000001", sequence: "1", subSequence: 0, fields: { text }, fates: [] },
  });
  await fillTheChunk(
    async (text) => encodeArchive([row(text)]),
    (object, text) => {
      verifyArchive(object);
      expect([...readArchive(object)]).toEqual([row(text)]);
    },
  );
});

test("so is an object of the inference log", async () => {
  const row = (text: string) => inferenceRow({ keys: { card_id: text } });
  await fillTheChunk(
    (text) => encodeInferenceLog(Buffer.from(inferenceLine(row(text)))),
    (object, text) => expect([...readInferenceLog(object)]).toEqual([row(text)]),
  );
});
