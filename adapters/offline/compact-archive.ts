/** Compaction of a whole archive: each stream of the plan, each tenant that has rows of it, and what was pushed. */
import { FreshetError } from "../../core/errors.ts";
import type { Plan, Stream } from "../../core/plan.ts";
import { PUSHED_VALUES } from "../../core/retention.ts";
import { type CompactionOptions, type CompactionReport, compactStream, nothingCompacted } from "./compaction.ts";
import { compactValues } from "./values-compaction.ts";

export interface ArchiveCompactionOptions extends Omit<CompactionOptions, "tenant" | "stream" | "onProgress"> {
  readonly plan: Plan;
  /** Of training sets: decides how long pushed values are kept after their last use. @default for ever */
  readonly retentionMs?: number | null;
  /** Or `PUSHED_VALUES`. @default all of the plan, and these */
  readonly stream?: string;
  readonly onProgress?: (stream: string, tenant: string, share: number) => void;
  /** What became of a stream, all tenants together; called as each is done. */
  readonly onStream?: (stream: string, report: CompactionReport) => void;
  /** A stream that failed; the others go on. */
  readonly onFailure?: (stream: string, error: unknown) => void;
}

/**
 * A stream that fails holds no other up: all are tried, and then the first failure is thrown.
 * @throws FreshetError `stream_unknown`, and as `compactStream`
 */
export async function compactArchive(options: ArchiveCompactionOptions): Promise<Record<string, CompactionReport>> {
  const wanted = (name: string) => options.stream === undefined || name === options.stream;
  const streams = options.plan.streams.filter(({ name }) => wanted(name));
  if (streams.length === 0 && !wanted(PUSHED_VALUES)) {
    throw new FreshetError("stream_unknown", `the plan has no stream ${options.stream}`, {
      field: "stream",
      repair: `use one of ${[...options.plan.streams.map(({ name }) => name), PUSHED_VALUES].join(", ")}`,
    });
  }
  const tenants = (await options.mirror.folders("raw/")).map((folder) => folder.slice("tenant=".length));
  const reports: Record<string, CompactionReport> = {};
  const failures: unknown[] = [];
  const run = async (name: string, compact: () => Promise<CompactionReport>) => {
    try {
      reports[name] = await compact();
      options.onStream?.(name, reports[name]);
    } catch (error) {
      options.onFailure?.(name, error);
      failures.push(error);
    }
  };
  for (const stream of streams) await run(stream.name, () => allTenants(options, stream, tenants));
  if (wanted(PUSHED_VALUES)) {
    await run(PUSHED_VALUES, () => compactValues({ ...options, retentionMs: options.retentionMs ?? null }));
  }
  if (failures.length > 0) throw failures[0];
  return reports;
}

async function allTenants(
  { onProgress, ...options }: ArchiveCompactionOptions,
  stream: Stream,
  tenants: readonly string[],
): Promise<CompactionReport> {
  let total: CompactionReport | null = null;
  for (const tenant of tenants) {
    const report = await compactStream({
      ...options,
      stream,
      tenant,
      onProgress: (share) => onProgress?.(stream.name, tenant, share),
    });
    total = total === null ? report : added(total, report);
  }
  return total ?? nothingCompacted();
}

function added(a: CompactionReport, b: CompactionReport): CompactionReport {
  const names = Object.keys(a) as (keyof CompactionReport)[];
  return Object.fromEntries(names.map((name) => [name, a[name] + b[name]])) as unknown as CompactionReport;
}
