/**
 * The archive of values that were pushed, by batch views' runs and by callers: one JSON row a line, compressed as one zstd frame with a
 * checksum. A row says what was pushed and when it became visible. Version 1, of runs: `values` by name; a value's key carries its type, since
 * JSON knows one kind of number only. Version 2, of callers: `packed`, the bytes that the store was given (valkey/packed.ts), in base64; what
 * an id means is in the table of registered features, for ever. The order of a row's keys is fixed, and golden bytes hold it.
 */
import { randomUUID } from "node:crypto";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { RecordError } from "../../core/errors.ts";
import type { Scalar } from "../../core/plan.ts";
import { durably } from "../aws/durable-call.ts";
import { dayOf, tenantPartition } from "../s3/object-path.ts";

export const VALUES_VERSION = 1;
export const PACKED_ROWS_VERSION = 2;

/** What rows of both versions say. */
interface PushedRow {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  readonly view: string;
  readonly eventTimeMs: number;
  /** The store's clock when the values were there. */
  readonly visibleMs: number;
}
export interface ValuesRow extends PushedRow {
  /** By `feature:dtype`, as `chargeback_rate_30d:double`. A null is a value; what is not named was not pushed. */
  readonly values: Readonly<Record<string, Scalar>>;
}
export interface PackedRow extends PushedRow {
  /** For how long after its event time a value is known: what a restore needs to know of it. */
  readonly reachMs: number;
  readonly packed: Buffer;
}

/** Of the keys of all values. */
export const VALUES_PREFIX = "values/";

/** Folder of a view's values; objects in it are named by their first visible time. */
export const valuesFolder = (tenant: string, view: string): string =>
  `${VALUES_PREFIX}tenant=${tenantPartition(tenant)}/view=${view}/`;

export function encodeValues(rows: readonly ValuesRow[]): Buffer {
  const lines = rows.map(
    ({ tenant, entity, id, view, eventTimeMs, visibleMs, values }) =>
      `${JSON.stringify({ v: VALUES_VERSION, tenant, entity, id, view, event_time_ms: eventTimeMs, visible_ms: visibleMs, values })}\n`,
  );
  return compressedValues(lines);
}

/** Lines of rows of one tenant, entity and view. */
export function packedLine({ tenant, entity, view, id, eventTimeMs, visibleMs, reachMs, packed }: PackedRow): string {
  // Names hold nothing that JSON would escape; an id may.
  return `{"v":${PACKED_ROWS_VERSION},"tenant":"${tenant}","entity":"${entity}","id":${JSON.stringify(id)},"view":"${view}","event_time_ms":${eventTimeMs},"visible_ms":${visibleMs},"reach_ms":${reachMs},"packed":"${packed.toString("base64")}"}\n`;
}

/** Lines, each with its end, as an object. */
export const compressedValues = (lines: readonly string[]): Buffer =>
  zstdCompressSync(Buffer.from(lines.join("")), {
    params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_checksumFlag]: 1 },
  });

/** Rows of an object, in its order. @throws RecordError `values_corrupt`, `values_version` */
export function readValues(bytes: Uint8Array): (ValuesRow | PackedRow)[] {
  return valuesLines(bytes).map((line, i) => parseRow(line, i + 1));
}

/** Checks an object without taking its rows apart, as other readers than ours need it. @throws RecordError as `readValues` */
export function verifyValues(bytes: Uint8Array): void {
  const known = [VALUES_VERSION, PACKED_ROWS_VERSION].map((version) => `{"v":${version},`);
  valuesLines(bytes).forEach((line, i) => {
    if (!known.some((start) => line.startsWith(start))) parseRow(line, i + 1);
  });
}

/** Lines of an object, without their ends. @throws RecordError `values_corrupt` */
export function valuesLines(bytes: Uint8Array): string[] {
  let text: string;
  try {
    text = zstdDecompressSync(bytes).toString("utf8");
  } catch (cause) {
    throw new RecordError("values_corrupt", "values object is not a whole zstd frame with a right checksum", { cause });
  }
  if (text !== "" && !text.endsWith("\n")) throw new RecordError("values_corrupt", "values object ends inside a row");
  return text.split("\n").slice(0, -1);
}

function parseRow(line: string, number: number): ValuesRow | PackedRow {
  let raw: Record<string, any>;
  try {
    raw = JSON.parse(line);
  } catch (cause) {
    throw new RecordError("values_corrupt", `row ${number} of the values object is not JSON`, { cause });
  }
  if (raw["v"] !== VALUES_VERSION && raw["v"] !== PACKED_ROWS_VERSION) {
    throw new RecordError(
      "values_version",
      `row ${number} of the values object has version ${JSON.stringify(raw["v"] ?? null)}, this reader knows ${VALUES_VERSION} and ${PACKED_ROWS_VERSION}`,
      { repair: "read it with the release that wrote it, or a newer one" },
    );
  }
  const { tenant, entity, id, view, values, packed } = raw;
  const row = {
    tenant,
    entity,
    id,
    view,
    eventTimeMs: raw["event_time_ms"],
    visibleMs: raw["visible_ms"],
  } as PushedRow;
  return raw["v"] === VALUES_VERSION
    ? { ...row, values }
    : { ...row, reachMs: raw["reach_ms"], packed: Buffer.from(packed, "base64") };
}

interface ValuesBucket {
  readonly s3: Pick<S3Client, "send">;
  readonly bucket: string;
}

/**
 * Writes rows of one tenant and view as one object under a fresh name.
 * @throws InfrastructureError `archive_unavailable`
 */
export function writeValues(to: ValuesBucket, rows: readonly ValuesRow[]): Promise<string> {
  const firstMs = rows.reduce((least, { visibleMs }) => Math.min(least, visibleMs), Number.POSITIVE_INFINITY);
  return put(to, rows[0], firstMs, encodeValues(rows));
}

/** The same with lines that are written already. @param firstMs the least of their visible times */
export function writeLines(
  to: ValuesBucket,
  of: Pick<PushedRow, "tenant" | "view">,
  firstMs: number,
  lines: readonly string[],
): Promise<string> {
  return put(to, of, firstMs, compressedValues(lines));
}

async function put(
  { s3, bucket }: ValuesBucket,
  { tenant, view }: Pick<PushedRow, "tenant" | "view">,
  firstMs: number,
  body: Buffer,
): Promise<string> {
  const name = `${String(firstMs).padStart(13, "0")}-${randomUUID()}.ndjson.zst`;
  const key = `${valuesFolder(tenant, view)}dt=${dayOf(firstMs)}/${name}`;
  await durably("archive_unavailable", `writing a values object to bucket ${bucket}`, () =>
    s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body, ContentType: "application/zstd" })),
  );
  return key;
}
