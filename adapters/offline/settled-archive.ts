/**
 * The archive of arrivals that are long past, for replays: raw objects that compaction has not come to, and hours of event time out of the
 * compacted ones. A row of such an arrival lies only in objects that were written since.
 */
import type { Stream } from "../../core/plan.ts";
import type { StoredObject } from "../s3/object-list.ts";
import { hourPath, tenantPartition } from "../s3/object-path.ts";
import { archiveSelect, hourOfKey } from "./archive-view.ts";
import { readCompactionLog, replacedBy } from "./compaction-log.ts";
import type { DuckSession } from "./duckdb.ts";
import { type ArchiveMirror, corruptObject } from "./mirror.ts";

/** Clocks of whoever writes and of S3 differ. */
const SKEW_MS = 3_600_000;
const MAX_LISTINGS = 5;

export interface Arrivals {
  readonly tenant: string;
  readonly stream: Stream;
  /** Half-open. */
  readonly fromMs: number;
  readonly toMs: number;
}

export interface SettledObjects {
  /** Keys of raw objects, in their order. */
  readonly raw: readonly string[];
  /** By the start of their hour of event time. */
  readonly hours: ReadonlyMap<number, readonly StoredObject[]>;
}

/** In the order that hides nothing from a reader (archive-view.ts). @throws InfrastructureError `archive_unavailable` */
export async function listSettled(
  mirror: ArchiveMirror,
  { tenant, stream, fromMs, toMs }: Arrivals,
): Promise<SettledObjects> {
  const partition = tenantPartition(tenant);
  const folder = (kind: string) => `${kind}/tenant=${partition}/stream=${stream.name}/`;
  const raw = await mirror.list(folder("raw"), `${folder("raw")}${hourPath(fromMs)}`);
  const done = replacedBy(await readCompactionLog(mirror, partition, stream.name));
  const compacted = await mirror.list(folder("compacted"));
  const hours = new Map<number, StoredObject[]>();
  for (const object of compacted) {
    if (done.has(object.key) || object.writtenMs < fromMs - SKEW_MS) continue;
    const hourMs = hourOfKey(object.key)!;
    hours.set(hourMs, [...(hours.get(hourMs) ?? []), object]);
  }
  const waits = ({ key }: StoredObject) => !done.has(key) && hourOfKey(key)! < toMs;
  return { raw: raw.filter(waits).map(({ key }) => key), hours };
}

/**
 * Makes a view of an hour's compacted rows.
 * @param listed of the hour: listed again where some of it is gone meanwhile
 * @param name of the view, as SQL
 * @returns what was brought to this machine for it, and what ends the view
 * @throws RecordError `archive_corrupt`, `archive_version` naming the object; InfrastructureError `archive_unavailable`
 */
export async function mountHour(
  session: DuckSession,
  mirror: ArchiveMirror,
  of: Arrivals,
  hourMs: number,
  listed: readonly StoredObject[],
  name: string,
): Promise<{ readonly objects: readonly StoredObject[]; readonly end: () => void }> {
  let objects = listed;
  for (let attempt = 1; ; attempt++) {
    const { gone } = await mirror.fetch(objects);
    if (gone.length > 0) {
      objects = (await listSettled(mirror, of)).hours.get(hourMs) ?? [];
      if (attempt < MAX_LISTINGS) continue;
      throw corruptObject(gone[0]!, "it is listed and cannot be fetched");
    }
    const files = objects.map(({ key }) => mirror.path(key));
    await session.run(`CREATE OR REPLACE VIEW ${name} AS ${archiveSelect(of.stream, [], files)}`);
    const end = session.onDataError(async (message) => {
      const named = objects.find(({ key }) => message.includes(mirror.path(key)));
      return named === undefined ? null : corruptObject(named.key, message.split("\n", 1)[0]!);
    });
    return { objects, end };
  }
}
