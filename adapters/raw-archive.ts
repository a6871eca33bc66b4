/** The raw archive by arrival, as it is listed in S3: for replays, which need no more of it than rows in some order. */
import { GetObjectCommand, ListObjectsV2Command, NoSuchKey, type S3Client } from "@aws-sdk/client-s3";
import { type ArchiveRow, readArchive } from "./archive.ts";
import { durably } from "./durable-call.ts";
import { hourPath } from "./object-path.ts";

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
    for (const tenant of await this.#folders("raw/")) {
      // What could not be attributed to a tenant was refused.
      if (!/^raw\/tenant=[a-z0-9]/.test(tenant)) continue;
      for (let hourMs = fromMs - (fromMs % HOUR_MS); hourMs < toMs; hourMs += HOUR_MS) {
        keys.push(...(await this.#list(`${tenant}stream=${stream}/${hourPath(hourMs)}/`)));
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

  async #folders(prefix: string): Promise<string[]> {
    const { prefixes } = await this.#pages(prefix, "/");
    return prefixes;
  }

  async #list(prefix: string): Promise<string[]> {
    const { keys } = await this.#pages(prefix);
    return keys;
  }

  async #pages(prefix: string, delimiter?: string): Promise<{ keys: string[]; prefixes: string[] }> {
    const keys: string[] = [];
    const prefixes: string[] = [];
    let token: string | undefined;
    do {
      const page = await this.#call(`listing ${prefix} of the archive`, () =>
        this.#s3.send(
          new ListObjectsV2Command({
            ...{ Bucket: this.#bucket, Prefix: prefix, Delimiter: delimiter, ContinuationToken: token },
          }),
        ),
      );
      keys.push(...(page.Contents ?? []).map(({ Key }) => Key!));
      prefixes.push(...(page.CommonPrefixes ?? []).map(({ Prefix }) => Prefix!));
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return { keys, prefixes };
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("archive_unavailable", what, call);
  }
}
