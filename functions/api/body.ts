/** Reads request bodies within a bound, and tells apart the ways in which one can be wrong. */
import { isUtf8 } from "node:buffer";
import { promisify } from "node:util";
import { gunzip, gunzipSync, inflate, inflateSync } from "node:zlib";
import { typeName } from "../../core/errors.ts";
import type { LoadGate } from "./admission/load-gate.ts";
import { Problem, shorten, suggest } from "./problems.ts";
import type { RequestContext } from "./router.ts";

export type JsonObject = Record<string, unknown>;

/** What the router puts beside a request that has passed the gate. */
export interface GatedEnvironment {
  gate: Pick<LoadGate, "uploading" | "uploaded">;
}

/** What a body may be compressed with: API Gateway knows the same two, and decodes them before a function is called. */
const CODINGS = {
  gzip: { here: gunzipSync, apart: promisify(gunzip) },
  deflate: { here: inflateSync, apart: promisify(inflate) },
};
/** More than this would hold up other requests for longer than its JSON does, and is decoded in another thread. */
const APART_FROM = 131_072;

/**
 * @returns the body as it was before it was compressed
 * @throws Problem `body_too_large`, before the whole body was taken in or decoded; `body_incomplete`, `content_encoding_unsupported`, `body_coding`
 */
export async function readBytes(c: RequestContext, maxBytes: number): Promise<Buffer> {
  const coding = c.req.header("content-encoding");
  if (coding === undefined) return readSent(c, maxBytes);
  const decode = decoderOf(coding);
  const sent = await readSent(c, maxBytes);
  return decode === null ? sent : decode(sent, maxBytes);
}

/** @returns null where there is nothing to decode. @throws Problem `content_encoding_unsupported` */
function decoderOf(given: string): ((bytes: Buffer, maxBytes: number) => Promise<Buffer>) | null {
  const coding = given.trim().toLowerCase().replace(/^x-/, "");
  if (coding === "" || coding === "identity") return null;
  if (coding !== "gzip" && coding !== "deflate") throw unsupportedCoding(given);
  return async (bytes, maxBytes) => {
    try {
      // A few bytes may stand for a great many.
      const bounds = { maxOutputLength: maxBytes };
      return bytes.length < APART_FROM
        ? CODINGS[coding].here(bytes, bounds)
        : await CODINGS[coding].apart(bytes, bounds);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw tooLarge(maxBytes);
      throw new Problem("body_coding", `the body is not what content-encoding: ${coding} says`, {
        field: "content-encoding",
        repair: `compress the body as ${coding}, or leave the header out`,
        cause,
      });
    }
  };
}

function unsupportedCoding(given: string): Problem {
  const known = Object.keys(CODINGS).join(", ");
  const message = `bodies are compressed with ${known}, or not at all; given ${shorten(given)}`;
  return new Problem("content_encoding_unsupported", message, {
    field: "content-encoding",
    repair: "compress with gzip, or send the body as it is",
    // RFC 9110, 15.5.16.
    headers: { "accept-encoding": known },
  });
}

async function readSent(c: RequestContext, maxBytes: number): Promise<Buffer> {
  // Of a call that has passed the gate; others count nowhere.
  const gate = (c.env as Partial<GatedEnvironment> | undefined)?.gate;
  const upload = gate?.uploading();
  try {
    const declared = c.req.header("content-length");
    // Node's parser holds the body to its declared length.
    if (declared !== undefined && Number(declared) > maxBytes) throw tooLarge(maxBytes);
    if (declared === undefined) return await readUndeclared(c, maxBytes);
    const bytes = c.req.whole === undefined ? Buffer.from(await c.req.arrayBuffer!()) : await c.req.whole();
    if (bytes.length > maxBytes) throw tooLarge(maxBytes);
    return bytes;
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    // The client went away, or its chunks are none. Nobody may be there to read this, but it is no fault of ours.
    throw new Problem("body_incomplete", "the body ended before it was whole", { repair: "send it again", cause });
  } finally {
    if (upload !== undefined) gate!.uploaded(upload);
  }
}

async function readUndeclared(c: RequestContext, maxBytes: number): Promise<Buffer> {
  const reader = c.req.raw?.body?.getReader();
  if (reader === undefined) return Buffer.alloc(0);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(chunks);
    length += value.length;
    if (length > maxBytes) {
      reader.releaseLock();
      throw tooLarge(maxBytes);
    }
    chunks.push(value);
  }
}

/** @throws Problem `content_type_unsupported`, `body_too_large`, `body_empty`, `body_encoding`, `malformed_json`, `body_shape` */
export async function readObject(c: RequestContext, maxBytes: number): Promise<JsonObject> {
  const type = c.req.header("content-type");
  if (type !== undefined && type !== "application/json" && !isJsonType(type)) throw unsupportedType(type, JSON_TYPES);
  return objectOf(parseJson(await readBytes(c, maxBytes)));
}

/** The same whatever type it claims to have. */
export async function readObjectOfAnyType(c: RequestContext, maxBytes: number): Promise<JsonObject> {
  return objectOf(parseJson(await readBytes(c, maxBytes)));
}

function objectOf(body: unknown): JsonObject {
  if (typeof body === "object" && body !== null && !Array.isArray(body)) return body as JsonObject;
  throw new Problem("body_shape", `the body is a JSON object, given ${typeName(body)}`, {
    repair: "send an object; /docs shows one",
  });
}

/**
 * A field that is misspelt would else be one that is left out.
 * @param what has the fields, as it begins the message. @param path of what has them, with its dot. @throws Problem `field_unknown`
 */
export function checkFields(given: JsonObject, known: readonly string[], what = "this call", path = ""): void {
  for (const name in given) {
    if (known.includes(name)) continue;
    throw new Problem("field_unknown", `${what} has no field "${shorten(name)}"`, {
      field: `${path}${shorten(name)}`,
      repair: suggest(name, known),
    });
  }
}

const JSON_TYPES = ["application/json"];
export const isJsonType = (type: string): boolean => /^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type);

export function unsupportedType(type: string, accepted: readonly string[]): Problem {
  return new Problem(
    "content_type_unsupported",
    `this call takes ${accepted.join(", ")}, given ${type.slice(0, 100)}`,
    {
      field: "content-type",
      repair: `send the header content-type: ${accepted[0]}`,
      headers: { accept: accepted.join(", ") },
    },
  );
}

/** @throws Problem `body_empty`, `body_encoding`, `number_not_finite`, `malformed_json` */
export function parseJson(bytes: Buffer): unknown {
  if (bytes.length === 0) throw emptyBody();
  if (!isUtf8(bytes)) {
    throw new Problem("body_encoding", "the body is not valid UTF-8", { repair: "encode the body as UTF-8" });
  }
  const text = bytes.toString("utf8");
  try {
    return JSON.parse(text);
  } catch {
    const { word, line, column } = firstStrangeWord(text);
    if (word !== null) {
      throw new Problem("number_not_finite", `JSON has no ${word} (line ${line}, column ${column})`, {
        repair: "leave the field out, or send null, when there is no value",
      });
    }
    throw new Problem("malformed_json", "the body cannot be parsed as JSON", {
      repair: "check quotes, commas and brackets; JSON has no comments and no trailing commas",
    });
  }
}

export const emptyBody = () =>
  new Problem("body_empty", "the body is empty", { repair: "send a body; /docs shows one" });

const tooLarge = (maxBytes: number) =>
  new Problem("body_too_large", `the body of this call is at most ${maxBytes} bytes`, {
    // The connection stays open: a client that is still sending would meet a reset instead of this answer.
    repair: "split it into several requests",
  });

/** Finds NaN or Infinity outside of strings, which lenient writers emit and no JSON parser takes. One pass. */
function firstStrangeWord(text: string): { word: string | null; line: number; column: number } {
  let line = 1;
  let lineStart = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '"') {
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
    } else if (character === "\n") {
      line++;
      lineStart = i + 1;
    } else if (character === "N" || character === "I" || character === "n") {
      const word = ["NaN", "Infinity", "nan"].find((candidate) => text.startsWith(candidate, i));
      if (word) return { word, line, column: i - lineStart + 1 };
    }
  }
  return { word: null, line, column: 0 };
}
