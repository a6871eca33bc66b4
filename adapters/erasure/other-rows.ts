/** What else holds rows of an entity: pushed values, the inference log, the quarantine. Each row is kept whole or goes. */
import type { ErasedEntity } from "../../core/erasure.ts";
import { RecordError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import { bodyOf, framingOf } from "../avro/framing.ts";
import { encodeInferenceLog, inferenceLine, readInferenceLog } from "../inference-log/inference-log-format.ts";
import { compressedValues, readValues, valuesLines } from "../pushed/values-format.ts";
import type { Rewritten } from "./rewrite.ts";

/** @returns null where there is none of it. @throws RecordError as `readValues` */
export function eraseValues(body: Buffer, subjects: readonly ErasedEntity[], beforeMs: number): Rewritten | null {
  const rows = readValues(body);
  const isErased = rows.map(
    (row) => row.eventTimeMs < beforeMs && subjects.some(({ entity, id }) => row.entity === entity && row.id === id),
  );
  // As the lines are: a row that is taken apart and put together again might be another text.
  const left = valuesLines(body).filter((_, i) => !isErased[i]);
  if (left.length === rows.length) return null;
  const compressed = left.length === 0 ? null : compressedValues(left.map((line) => `${line}\n`));
  return { body: compressed, rows: rows.length - left.length };
}

export interface ScoresTerms {
  readonly plan: Plan;
  readonly subjects: readonly ErasedEntity[];
  readonly beforeMs: number;
  /** Whether the event that was scored has been erased. */
  readonly isErasedEvent: (eventId: string) => boolean;
}

/** Scores that were made for it, or of its events. @throws RecordError as `readInferenceLog` */
export async function eraseScores(body: Buffer, terms: ScoresTerms): Promise<Rewritten | null> {
  const { plan, subjects, beforeMs, isErasedEvent } = terms;
  const keys = subjects.map(({ entity, id }) => ({
    joinKey: plan.entities.find(({ name }) => name === entity)!.joinKey,
    id,
  }));
  let rows = 0;
  const left: string[] = [];
  for (const row of readInferenceLog(body)) {
    const isAbout = row.asOfMs < beforeMs && keys.some(({ joinKey, id }) => row.keys[joinKey] === id);
    if (isAbout || (row.eventId !== null && isErasedEvent(row.eventId))) rows++;
    else left.push(inferenceLine(row));
  }
  if (rows === 0) return null;
  return { body: left.length === 0 ? null : await encodeInferenceLog(Buffer.from(left.join(""))), rows };
}

/** Where a record's bytes name one of the ids as Avro writes a text, or as JSON does: what cannot be decoded is looked for by its bytes. */
export function bytesName(given: Buffer, ids: readonly string[]): boolean {
  const bytes = plainBytes(given);
  return ids.some((id) => {
    const text = Buffer.from(id);
    return bytes.includes(Buffer.concat([avroLength(text.length), text])) || bytes.includes(JSON.stringify(id));
  });
}

/** One at a time, and also those that were refused for their size. */
const MAX_HIDDEN_BYTES = 64 * 1024 * 1024;

/** What a compressed framing hides. What does not open is looked at as it is. */
function plainBytes(bytes: Buffer): Buffer {
  try {
    const framed = framingOf(bytes);
    return framed?.compressed ? bodyOf(bytes, framed, MAX_HIDDEN_BYTES) : bytes;
  } catch {
    return bytes;
  }
}

/** Zigzag varint, as before an Avro string. */
function avroLength(length: number): Buffer {
  const bytes: number[] = [];
  let rest = length * 2;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...bytes, rest]);
}

export interface QuarantinedLine {
  readonly id: string;
  readonly stream: string;
  readonly arrivalMs: number;
}

function envelopeOf(line: string): Record<string, any> {
  try {
    const envelope = JSON.parse(line);
    if (typeof envelope?.arrival_ms === "number" && (envelope.erased || typeof envelope.bytes === "string"))
      return envelope;
  } catch {}
  throw new RecordError("quarantine_corrupt", "a line of an object is none of the quarantine's", {
    repair: "restore an older version of the object, or remove it",
  });
}

/**
 * A line whose bytes name an id becomes an empty one, so that the index finds the others where they were.
 * @param onErased told of each line that goes
 * @throws RecordError `quarantine_corrupt` for an object that somebody has put or changed by hand
 */
export function eraseQuarantined(
  body: Buffer,
  { isErased, beforeMs }: { readonly isErased: (bytes: Buffer) => boolean; readonly beforeMs: number },
  onErased: (line: QuarantinedLine) => void,
): Rewritten | null {
  let rows = 0;
  let left = 0;
  const lines = body.toString("utf8").split("\n");
  const kept = lines.map((line) => {
    if (line === "") return line;
    const envelope = envelopeOf(line);
    if (envelope["erased"]) return line;
    // Nothing that arrived before the cut-off is newer than it, and what arrived later may say anything of its own time.
    if (envelope["arrival_ms"] >= beforeMs || !isErased(Buffer.from(envelope["bytes"], "base64"))) {
      left++;
      return line;
    }
    rows++;
    const { v, id, stream, arrival_ms } = envelope;
    onErased({ id, stream, arrivalMs: arrival_ms });
    return JSON.stringify({ v, id, stream, arrival_ms, erased: true });
  });
  if (rows === 0) return null;
  return { body: left === 0 ? null : Buffer.from(kept.join("\n")), rows };
}
