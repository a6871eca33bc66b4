/**
 * The raw archive: what the aggregate function did with every record, written after the apply and before the
 * acknowledgement. Objects are written at least once, each under a fresh name and never again.
 */
import { randomUUID } from "node:crypto";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { durably, forEachLimited } from "../aws/durable-call.ts";
import { hourPath, tenantPartition } from "../s3/object-path.ts";
import { type ArchiveRow, encodeArchive } from "./archive-format.ts";

export { type ArchiveRow, type EntityFate, encodeArchive, type Fate, readArchive } from "./archive-format.ts";

const HOUR_MS = 3_600_000;
/** One batch seldom holds more than a tenant; of one with many, this many objects are written at once. */
const CONCURRENT_PUTS = 16;

export interface ArchiveObject {
  readonly key: string;
  /** Size as stored, compressed. */
  readonly bytes: number;
  readonly rows: number;
}

export class ArchiveWriter {
  readonly #bucket: string;
  readonly #s3: Pick<S3Client, "send">;

  constructor({ bucket, s3 }: { bucket: string; s3: Pick<S3Client, "send"> }) {
    this.#bucket = bucket;
    this.#s3 = s3;
  }

  /**
   * Writes the rows of one invocation: one object for each tenant and hour of arrival among them, in the common case one.
   * Every row of `raw/tenant=t/stream=s/dt=d/hh=h/` arrived in that hour, so a reader may prune by it.
   * @param rows all of `context.stream`, in the order in which they were delivered
   * @throws InfrastructureError `archive_unavailable`; objects already written stay, and their rows are repeated by the retry
   */
  async write(
    rows: readonly ArchiveRow[],
    context: { readonly stream: string; readonly shard: string },
  ): Promise<readonly ArchiveObject[]> {
    const groups = byTenantAndHour(rows);
    const written: ArchiveObject[] = [];
    await forEachLimited(groups, CONCURRENT_PUTS, async (group) => {
      const body = encodeArchive(group);
      const key = archiveKey(group[0]!, context);
      await durably("archive_unavailable", `writing an archive object to bucket ${this.#bucket}`, () =>
        this.#s3.send(
          new PutObjectCommand({ Bucket: this.#bucket, Key: key, Body: body, ContentType: "application/zstd" }),
        ),
      );
      written.push({ key, bytes: body.length, rows: group.length });
    });
    return written;
  }
}

/** Fixed-width arrival first, so that the names of a folder sort by it. */
function archiveKey(first: ArchiveRow, context: { readonly stream: string; readonly shard: string }): string {
  const folder = `raw/tenant=${tenantPartition(first.tenant)}/stream=${context.stream}/${hourPath(first.arrivalMs)}`;
  return `${folder}/${String(first.arrivalMs).padStart(13, "0")}-${context.shard}-${randomUUID()}.ndjson.zst`;
}

function byTenantAndHour(rows: readonly ArchiveRow[]): ArchiveRow[][] {
  const groups = new Map<string, Map<number, ArchiveRow[]>>();
  let lastTenant: string | null | undefined;
  let hours!: Map<number, ArchiveRow[]>;
  for (const row of rows) {
    if (row.tenant !== lastTenant) {
      lastTenant = row.tenant;
      const partition = tenantPartition(row.tenant);
      hours = groups.get(partition) ?? new Map();
      groups.set(partition, hours);
    }
    const hour = Math.floor(row.arrivalMs / HOUR_MS);
    const group = hours.get(hour);
    if (group === undefined) hours.set(hour, [row]);
    else group.push(row);
  }
  return [...groups.values()].flatMap((byHour) => [...byHour.values()]);
}
