/**
 * Compression of answers for callers who ask for it, on the plain server; behind API Gateway the gateway does it. Fastest
 * settings: on an answer of 9 KB Brotli 1 takes 40 µs to a sixth of it, gzip 1 47 µs, and their best settings save a tenth more.
 */
import { promisify } from "node:util";
import { brotliCompress, brotliCompressSync, constants, gzip, gzipSync } from "node:zlib";

export interface Compressed {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly encoding: Encoding;
}
type Encoding = "br" | "gzip";

/** What fits into one packet arrives no sooner for being shorter. */
export const COMPRESSED_FROM = 1_400;
/** More than this would hold up other requests for too long, and is done in another thread. */
const APART_FROM = 131_072;

const brotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } };
const inflated = { level: 1 };
const brotliApart = promisify(brotliCompress);
const gzipApart = promisify(gzip);

/** @returns null for what is sent as it is */
export function compress(accepted: string | undefined, body: string): Compressed | Promise<Compressed> | null {
  if (body.length < COMPRESSED_FROM || accepted === undefined) return null;
  const encoding = encodingFor(accepted);
  if (encoding === null) return null;
  if (body.length >= APART_FROM) return compressApart(encoding, body);
  const bytes = encoding === "br" ? brotliCompressSync(body, brotli) : gzipSync(body, inflated);
  return { body: bytes as Uint8Array<ArrayBuffer>, encoding };
}

async function compressApart(encoding: Encoding, body: string): Promise<Compressed> {
  const bytes = await (encoding === "br" ? brotliApart(body, brotli) : gzipApart(body, inflated));
  return { body: bytes as Uint8Array<ArrayBuffer>, encoding };
}

/** Clients send the same few headers again and again. */
const known = new Map<string, Encoding | null>();
const KNOWN = 100;

/** RFC 9110, 12.5.3: the greatest weight wins, ours among equals; what has weight 0, or is not named, is not taken. */
export function encodingFor(accepted: string): Encoding | null {
  let encoding = known.get(accepted);
  if (encoding === undefined) {
    encoding = choose(accepted);
    if (known.size >= KNOWN) known.clear();
    known.set(accepted, encoding);
  }
  return encoding;
}

function choose(accepted: string): Encoding | null {
  const weights = new Map<string, number>();
  for (const part of accepted.toLowerCase().split(",")) {
    const [name, ...parameters] = part.split(";").map((text) => text.trim());
    const q = parameters.find((text) => text.startsWith("q="));
    const weight = q === undefined ? 1 : Number(q.slice(2));
    weights.set(name, weight >= 0 && weight <= 1 ? weight : 0);
  }
  const of = (...names: string[]): number => {
    const named = names.find((name) => weights.has(name));
    return named === undefined ? 0 : weights.get(named)!;
  };
  const [br, zip] = [of("br", "*"), of("gzip", "x-gzip", "*")];
  // Who names no encoding asks for none; who prefers answers as they are gets them.
  if (Math.max(br, zip) === 0 || of("identity") > Math.max(br, zip)) return null;
  return br >= zip ? "br" : "gzip";
}
