/** The raw archive by arrival, as it is listed in S3: for replays, which need no more of it than rows in some order. */
import { GetObjectCommand, NoSuchKey, type S3Client } from "@aws-sdk/client-s3";
import { durably } from "../aws/durable-call.ts";
import { type Listing, listObjects } from "../s3/object-list.ts";
import { hourPath } from "../s3/object-path.ts";
import { type ArchiveRow, readArchive } from "./archive.ts";

const HOUR_MS = 3_600_000;

export class RawArchive {
  readonly #bucket: string;
  readonly #s3: Pick<S3Client, "send">;

  constructor({ bucket, s3 }: { bucket: string; s3: Pick<S3Client, "send"> }) {
    this.#bucket = bucket;
    this.#s3 = s3;
  }

  /**
   * Keys of objects that may hold rows with `fromMs <= arrival < toMs`, of all tenants, sorted: replays go through them in that order.
   * Compaction takes raw objects away a day later; what is not there is not listed.
   * @throws InfrastructureError `archive_unavailable`, as does `rows`
   */
  async keys(stream: string, fromMs: number, toMs: number): Promise<string[]> {
    const keys: string[] = [];
    for (const tenant of (await this.#list("raw/", "/")).prefixes) {
      // What could not be attributed to a tenant was refused.
      if (!/^raw\/tenant=[a-z0-9]/.test(tenant)) continue;
      for (let hourMs = fromMs - (fromMs % HOUR_MS); hourMs < toMs; hourMs += HOUR_MS) {
        const { objects } = await this.#list(`${tenant}stream=${stream}/${hourPath(hourMs)}/`);
        for (const { key } of objects) keys.push(key);
      }
    }
    return keys.sort();
  }

  /** Rows of an object; none where compaction has taken it away. @throws RecordError for a damaged one */
  async rows(key: string): Promise<ArchiveRow[]> {
    const bytes = await this.#call(`reading archive object ${key}`, async () => {
      try {
        const { Body } = await this.#s3.send(new GetObjectCommand({ Bucket: this.#bucket, Key: key }));
        return await Body!.transformToByteArray();
      } catch (error) {
        if (error instanceof NoSuchKey) return null;
        throw error;
      }
    });
    return bytes === null ? [] : [...readArchive(bytes)];
  }

  #list(prefix: string, delimiter?: string): Promise<Listing> {
    const at = { s3: this.#s3, bucket: this.#bucket };
    const failure = { code: "archive_unavailable", what: `listing ${prefix} of the archive` };
    return listObjects(at, { prefix, delimiter }, failure);
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("archive_unavailable", what, call);
  }
}
