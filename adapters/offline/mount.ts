/** Streams of a tenant's archive, mounted for a training set or any other join. */
import { mountArchive } from "./archive-view.ts";
import type { DuckSession } from "./duckdb.ts";
import type { ArchiveMirror, FetchOptions } from "./mirror.ts";
import type { MountStream } from "./training-set.ts";

export function archiveMount(
  session: DuckSession,
  mirror: ArchiveMirror,
  tenant: string,
  options: FetchOptions = {},
): MountStream {
  return async (stream, range, name) => {
    const { raw, compacted, corrupt } = await mountArchive(
      session,
      mirror,
      { tenant, stream, ...range },
      name,
      options,
    );
    const folders = [...raw, ...compacted].map(({ key }) => key.slice(0, key.lastIndexOf("/")));
    return {
      raw_objects: raw.length,
      compacted_objects: compacted.length,
      partitions: [...new Set(folders)].sort(),
      corrupt_objects: corrupt.map(({ key }) => key),
    };
  };
}
