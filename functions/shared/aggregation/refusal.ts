/** What is kept of a record that can never become right by trying again: an item of the quarantine, and an archive row that says so. */
import type { ArchiveRow } from "../../../adapters/archive/archive.ts";
import { framingOf } from "../../../adapters/avro/framing.ts";
import type { QuarantinedRecord } from "../../../adapters/quarantine/quarantine.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { Stream } from "../../../core/plan.ts";

export interface Refused {
  readonly quarantined: QuarantinedRecord;
  readonly row: ArchiveRow;
}

/**
 * @param bytes of the one event; of a KPL-aggregated record that does not open, all of it
 * @param fields as far as it was decoded
 */
export function refuse(
  stream: Stream,
  shard: string,
  { sequence, arrivalMs }: { readonly sequence: string; readonly arrivalMs: number },
  subSequence: number,
  bytes: Uint8Array,
  fields: Readonly<Record<string, unknown>> | null,
  error: unknown,
): Refused {
  // Anything but our own error is a bug that this record brought to light: it must not stop the shard.
  const known = error instanceof FreshetError;
  const reason = known ? error.code : "processing_failed";
  const tenant = typeof fields?.["tenant"] === "string" ? fields["tenant"] : null;
  const delivery = { stream: stream.name, arrivalMs, shard, sequence, subSequence };
  const eventId = fields?.[stream.eventId];
  const eventTimeMs = fields?.[stream.eventTime];
  return {
    quarantined: {
      ...delivery,
      tenant,
      reason,
      field: known ? (error.field ?? null) : null,
      message: known ? error.message : "an unexpected error; the function's log has it",
      fingerprint: schemaNamedBy(bytes),
      bytes,
    },
    row: {
      ...delivery,
      tenant,
      eventId: typeof eventId === "string" ? eventId : null,
      eventTimeMs: typeof eventTimeMs === "number" && Number.isSafeInteger(eventTimeMs) ? eventTimeMs : null,
      identity: null,
      fields,
      fates: [],
      reason,
    },
  };
}

/** The fingerprint of our own framing as it lies there, the id of a registry's; null where there is neither. */
function schemaNamedBy(bytes: Uint8Array): string | null {
  const singleObject = bytes.length >= 10 && bytes[0] === 0xc3 && bytes[1] === 0x01;
  return singleObject ? Buffer.from(bytes.subarray(2, 10)).toString("hex") : (framingOf(bytes)?.id ?? null);
}
