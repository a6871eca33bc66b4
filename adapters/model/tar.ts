/** `model.tar.gz` as SageMaker leaves it, read in memory: no Lambda runtime has a tar program. */
import { createGunzip } from "node:zlib";
import { RecordError } from "../../core/errors.ts";

const BLOCK = 512;
const text = (bytes: Uint8Array, from: number, length: number): string => {
  const field = bytes.subarray(from, from + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end)).toString("utf8");
};
const corrupt = (message: string, cause?: unknown): RecordError =>
  new RecordError("archive_invalid", `the packed model ${message}`, {
    field: "model.tar.gz",
    repair: "train again; the object is not what the training job wrote",
    cause,
  });

/**
 * The regular files of a gzipped tar (ustar, as `tar` and Python write it) by name without a leading `./`. Folders, links and
 * extended headers are passed over.
 * @param limitBytes of the unpacked tar, so that a small object cannot fill the memory
 * @throws RecordError `archive_invalid`
 */
export async function readTarGz(bytes: Uint8Array, limitBytes = 512 << 20): Promise<Record<string, Uint8Array>> {
  const tar = await gunzipWithin(bytes, limitBytes);
  const files: Record<string, Uint8Array> = {};
  for (let at = 0; at + BLOCK <= tar.length && tar[at] !== 0; ) {
    const header = tar.subarray(at, at + BLOCK);
    const size = Number.parseInt(text(header, 124, 12).trim(), 8);
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    if (sum !== Number.parseInt(text(header, 148, 8).trim(), 8)) throw corrupt(`has a damaged entry at byte ${at}`);
    if (at + BLOCK + size > tar.length) throw corrupt("is cut short");
    const kind = header[156];
    if (kind === 0 || kind === 0x30) {
      const prefix = text(header, 345, 155);
      const name = `${prefix === "" ? "" : `${prefix}/`}${text(header, 0, 100)}`.replace(/^(\.\/)+/, "");
      files[name] = tar.subarray(at + BLOCK, at + BLOCK + size);
    }
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  if (Object.keys(files).length === 0) throw corrupt("holds no file");
  return files;
}

async function gunzipWithin(bytes: Uint8Array, limitBytes: number): Promise<Buffer> {
  const gunzip = createGunzip();
  const parts: Buffer[] = [];
  let total = 0;
  gunzip.end(bytes);
  try {
    for await (const part of gunzip as AsyncIterable<Buffer>) {
      total += part.length;
      if (total > limitBytes) throw corrupt(`unpacks to more than ${limitBytes} bytes`);
      parts.push(part);
    }
  } catch (cause) {
    if (cause instanceof RecordError) throw cause;
    throw corrupt("is no gzip", cause);
  }
  return Buffer.concat(parts);
}
