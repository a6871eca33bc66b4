/**
 * Objects that are one zstd frame. Node's zlib asks zstd to end the frame once more where it has filled the last output chunk to the
 * byte, and zstd then begins another one behind it, which is empty: one of 16,384 objects that are longer than a chunk. A reader
 * that wants one frame and nothing else takes the object for damaged. (https://github.com/denoland/deno/issues/36688 compares both runtimes.)
 */
import { zstdDecompressSync } from "node:zlib";
import { RecordError } from "../../core/errors.ts";

/** Node's default, which nobody here changes. */
const CHUNK_BYTES = 16_384;
/** Magic number, a descriptor (single segment, with checksum), size 0, a last block of no bytes, the checksum of nothing. */
const EMPTY_FRAME = Buffer.from("28b52ffd240001000099e9d851", "hex");

/** @param compressed as Node's zstd gives it, with a checksum. @returns its first frame, which holds all of it */
export function oneFrame(compressed: Buffer): Buffer {
  const end = compressed.length - EMPTY_FRAME.length;
  const isFilled = end > 0 && end % CHUNK_BYTES === 0;
  return isFilled && EMPTY_FRAME.equals(compressed.subarray(end)) ? compressed.subarray(0, end) : compressed;
}

/**
 * @returns the frame's content, and how many bytes follow it; an empty frame, as objects of earlier releases may have one, counts for none
 * @throws what zlib throws, `Z_BUF_ERROR` where the frame is cut off
 */
export function readFrame(bytes: Uint8Array): { body: Buffer; trailing: number } {
  // With `info`, zlib tells how much it read: it ignores what follows the first frame. (@types/node lacks it for zstd.)
  const { buffer, engine } = zstdDecompressSync(bytes, { info: true } as object) as unknown as {
    buffer: Buffer;
    engine: { bytesWritten: number };
  };
  const rest = bytes.subarray(engine.bytesWritten);
  return { body: buffer, trailing: EMPTY_FRAME.equals(rest) ? 0 : rest.length };
}

/**
 * The content of an object that is one frame and nothing else.
 * @param code how the errors' codes begin
 * @param object what their messages call it
 * @throws RecordError `<code>_truncated`, `<code>_corrupt` (not zstd, a wrong checksum), `<code>_trailing` (bytes after the frame)
 */
export function onlyFrame(bytes: Uint8Array, code: string, object: string): Buffer {
  let frame: ReturnType<typeof readFrame>;
  try {
    frame = readFrame(bytes);
  } catch (cause) {
    throw (cause as { code?: string }).code === "Z_BUF_ERROR"
      ? new RecordError(`${code}_truncated`, `${object} of ${bytes.length} bytes ends inside its frame`, { cause })
      : new RecordError(`${code}_corrupt`, `${object} is not a zstd frame with a right checksum`, { cause });
  }
  const { body, trailing } = frame;
  if (trailing > 0) throw new RecordError(`${code}_trailing`, `${object} has ${trailing} bytes after its frame`);
  return body;
}
