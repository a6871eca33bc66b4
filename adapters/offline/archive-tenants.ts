import type { ArchiveMirror } from "./mirror.ts";

/** Tenants with events of a stream in the archive. @throws InfrastructureError `archive_unavailable` */
export async function archiveTenants(mirror: ArchiveMirror, stream: string): Promise<string[]> {
  const tenants = new Set<string>();
  for (const kind of ["raw", "compacted"]) {
    for (const folder of await mirror.folders(`${kind}/`)) {
      const name = /^tenant=([a-z0-9].*)$/.exec(folder)?.[1];
      // Names that begin otherwise are ours: what could not be attributed was quarantined.
      if (name === undefined || tenants.has(name)) continue;
      if ((await mirror.folders(`${kind}/${folder}/`)).includes(`stream=${stream}`)) tenants.add(name);
    }
  }
  return [...tenants].sort();
}
