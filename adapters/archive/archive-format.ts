/**
 * The raw archive's object format, version 1: one JSON row a line, in arrival order, compressed as one zstd frame with a
 * checksum. Rows stand alone, so that DuckDB and Athena read the lines without our help; what they repeat costs
 * almost nothing after compression. The order of a row's keys is fixed, and golden bytes hold it.
 */
import { constants, zstdCompressSync } from "node:zlib";
import { RecordError } from "../../core/errors.ts";
import { oneFrame, onlyFrame } from "../s3/zstd-frame.ts";

const ARCHIVE_VERSION = 1;

/** What became of an event for one entity. `repaired` rows are appended later, by repair, for rows that were `late`. */
export type Fate = "applied" | "duplicate" | "late" | "quarantined" | "repaired";

export interface EntityFate {
  /** The entity's name in the plan, as `card`. */
  readonly entity: string;
  readonly id: string;
  readonly fate: Fate;
  /** The store's clock when the event was first applied for this entity; null while it is not visible. */
  readonly visibleMs: number | null;
}

/** Where the broker put a record, and when. */
export interface Delivery {
  readonly stream: string;
  readonly arrivalMs: number;
  readonly shard: string;
  readonly sequence: string;
  /** Index inside a KPL-aggregated record; 0 for a plain one. */
  readonly subSequence: number;
}

/** One delivered record. A delivery that repeats (a retry, a zombie) makes a second row: readers deduplicate. */
export interface ArchiveRow extends Delivery {
  /** Null only when the record was quarantined before its tenant could be read; likewise the next three. */
  readonly tenant: string | null;
  readonly eventId: string | null;
  readonly eventTimeMs: number | null;
  /** 16 hex digits. */
  readonly identity: string | null;
  /** Every field of the contract; null when the record could not be decoded. Names are Avro names. */
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly fates: readonly EntityFate[];
  /** Set when the record as a whole was quarantined: the error's code. `fates` is empty then. */
  readonly reason?: string;
}

/** Strings that are their own JSON form: no control character, quote, backslash or surrogate (a lone one is escaped). */
const PLAIN = /^[ !#-[\]-\ud7ff\ue000-\uffff]*$/;
/** What stands between the quotes: these are then part of what a row's neighbours share, and a row is made of half as many pieces. */
const inner = (value: string): string => (PLAIN.test(value) ? value : JSON.stringify(value).slice(1, -1));
const textOrNull = (value: string | null): string => (value === null ? "null" : `"${inner(value)}"`);

/** More visible times than a batch has; an import has one for each row. */
const KEPT_ENDS = 4_096;

/** What follows a fate's id. Few visible times are told by many rows, and each number costs as much as an id to write. */
function fateEnds(): (fate: Fate, visibleMs: number | null) => string {
  const kept = new Map<Fate, Map<number | null, string>>();
  let last: Fate | undefined;
  let ends!: Map<number | null, string>;
  return (fate, visibleMs) => {
    if (fate !== last) {
      last = fate;
      ends = kept.get(fate) ?? new Map();
      kept.set(fate, ends);
    }
    const known = ends.get(visibleMs);
    if (known !== undefined) return known;
    if (ends.size === KEPT_ENDS) ends.clear();
    const end = `","fate":"${fate}","visible_ms":${visibleMs}}`;
    ends.set(visibleMs, end);
    return end;
  };
}

/**
 * Makes the function that formats one row as a line, newline included. What rows of a batch share is formatted once, and
 * no object in the line's shape is built; only the fields, whose names are the contract's, go through JSON.stringify.
 * It writes NaN and the infinities as null; the quarantine holds such a record's exact bytes.
 */
export function archiveRowFormatter(): (row: ArchiveRow) => string {
  let tenant: string | null | undefined;
  let stream: string | undefined;
  let shard: string | undefined;
  let head = "";
  let arrivalMs: number | undefined;
  let subSequence: number | undefined;
  let middle = "";
  const entities: string[] = [];
  const begins: string[] = [];
  const endOf = fateEnds();
  return (row) => {
    if (row.tenant !== tenant || row.stream !== stream || row.shard !== shard) {
      ({ tenant, stream, shard } = row);
      head = `{"v":${ARCHIVE_VERSION},"tenant":${textOrNull(tenant)},"stream":"${inner(stream)}","shard":"${inner(shard)}","sequence":"`;
    }
    if (row.arrivalMs !== arrivalMs || row.subSequence !== subSequence) {
      ({ arrivalMs, subSequence } = row);
      middle = `","sub_sequence":${subSequence},"arrival_ms":${arrivalMs},"event_id":`;
    }
    const { eventId, identity, fates } = row;
    let line = head + inner(row.sequence) + middle;
    line +=
      eventId === null || identity === null
        ? `${textOrNull(eventId)},"event_time_ms":${row.eventTimeMs},"identity":${textOrNull(identity)},`
        : `"${inner(eventId)}","event_time_ms":${row.eventTimeMs},"identity":"${inner(identity)}",`;
    if (row.reason !== undefined) line += `"reason":"${inner(row.reason)}",`;
    line += `"fields":${JSON.stringify(row.fields)},"fates":[`;
    for (let i = 0; i < fates.length; i++) {
      // Entities and fates are the plan's words and ours: plain letters, nothing to escape.
      const { entity, id, fate, visibleMs } = fates[i]!;
      if (entities[i] !== entity) {
        entities[i] = entity;
        begins[i] = `${i === 0 ? "" : ","}{"entity":"${entity}","id":"`;
      }
      line += begins[i]! + inner(id) + endOf(fate, visibleMs);
    }
    return line + "]}\n";
  };
}

/** Where rows become bytes before compression, kept between calls: fresh megabytes would be faulted in page by page. */
let scratch = Buffer.allocUnsafeSlow(1 << 20);

/** Rows repeat their neighbours: a window that stays in the CPU's cache finds as much, in a fifth less time. */
const ZSTD = {
  [constants.ZSTD_c_compressionLevel]: 1,
  [constants.ZSTD_c_windowLog]: 17,
  [constants.ZSTD_c_checksumFlag]: 1,
};

/** Rows to bytes of one object. @returns the compressed object; about 100 B for a row of 900 B */
export function encodeArchive(rows: readonly ArchiveRow[]): Buffer {
  const format = archiveRowFormatter();
  let length = 0;
  let pending = "";
  const flush = (): void => {
    // UTF-8 needs at most three bytes for a UTF-16 unit.
    const needed = length + pending.length * 3;
    if (needed > scratch.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, scratch.length * 2));
      scratch.copy(larger, 0, 0, length);
      scratch = larger;
    }
    length += scratch.write(pending, length, "utf8");
    pending = "";
  };
  for (const row of rows) {
    pending += format(row);
    // Ropes this long flatten inside the CPU's cache; one rope for a whole batch takes half as long again.
    if (pending.length > 32_768) flush();
  }
  flush();
  return oneFrame(zstdCompressSync(scratch.subarray(0, length), { params: ZSTD }));
}

/**
 * Rows of an object, in its order. Bytes are checked at once, rows as they are taken.
 * @throws RecordError `archive_truncated`, `archive_trailing` (bytes after the frame), `archive_corrupt` (not zstd, a
 *   wrong checksum, a line that is no row), `archive_version` or `archive_precision` (an integer that a double cannot hold)
 */
export function* readArchive(bytes: Uint8Array): Generator<ArchiveRow> {
  const body = onlyFrame(bytes, "archive", "archive object");
  requireWholeRows(body);
  let start = 0;
  for (let number = 1; start < body.length; number++) {
    const end = body.indexOf(0x0a, start);
    yield parseArchiveRow(body.toString("utf8", start, end), number);
    start = end + 1;
  }
}

/** Every line of ours begins so. */
const LINE_START = Buffer.from(`{"v":${ARCHIVE_VERSION},`);

/**
 * Checks an object without taking its rows apart: whole, right checksum, every line of a known version. Other readers than
 * ours need it (DuckDB takes a cut zstd frame for a short file).
 * @throws RecordError as `readArchive`, but for `archive_precision`
 */
export function verifyArchive(bytes: Uint8Array): void {
  const body = onlyFrame(bytes, "archive", "archive object");
  requireWholeRows(body);
  let start = 0;
  for (let number = 1; start < body.length; number++) {
    const end = body.indexOf(0x0a, start);
    const known = LINE_START.compare(body, start, start + LINE_START.length) === 0;
    if (!known) parseArchiveRow(body.toString("utf8", start, end), number);
    start = end + 1;
  }
}

function requireWholeRows(body: Buffer): void {
  if (body.length > 0 && body[body.length - 1] !== 0x0a) {
    throw new RecordError("archive_truncated", "archive object ends inside a row");
  }
}

/** @param number 1-based, for messages */
function parseArchiveRow(line: string, number: number): ArchiveRow {
  let raw: Record<string, any>;
  try {
    raw = JSON.parse(line);
  } catch (cause) {
    throw new RecordError("archive_corrupt", `row ${number} of the archive object is not JSON`, { cause });
  }
  if (raw?.["v"] !== ARCHIVE_VERSION) {
    throw new RecordError(
      "archive_version",
      `row ${number} of the archive object has version ${JSON.stringify(raw?.["v"] ?? null)}, this reader knows ${ARCHIVE_VERSION}`,
      { repair: "read it with the release that wrote it, or a newer one" },
    );
  }
  for (const name of ["event_time_ms", "arrival_ms", "sub_sequence"]) {
    if (raw[name] !== null && !Number.isSafeInteger(raw[name])) {
      throw new RecordError("archive_precision", `${name} of row ${number} is not an exact integer`, { field: name });
    }
  }
  return {
    tenant: raw["tenant"],
    stream: raw["stream"],
    eventId: raw["event_id"],
    eventTimeMs: raw["event_time_ms"],
    identity: raw["identity"],
    arrivalMs: raw["arrival_ms"],
    shard: raw["shard"],
    sequence: raw["sequence"],
    subSequence: raw["sub_sequence"],
    ...(raw["reason"] === undefined ? {} : { reason: raw["reason"] }),
    fields: raw["fields"],
    fates: raw["fates"].map((fate: Record<string, any>) => ({
      entity: fate["entity"],
      id: fate["id"],
      fate: fate["fate"],
      visibleMs: fate["visible_ms"],
    })),
  };
}
