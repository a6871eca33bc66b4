/** Compaction of a whole archive: each stream of the plan, each tenant that has rows of it. */
import { FreshetError } from "../../core/errors.ts";
import type { Plan, Stream } from "../../core/plan.ts";
import { type CompactionOptions, type CompactionReport, compactStream } from "./compaction.ts";

export interface ArchiveCompactionOptions extends Omit<CompactionOptions, "tenant" | "stream" | "onProgress"> {
  readonly plan: Plan;
  /** @default all of the plan */
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
  const streams = options.plan.streams.filter(({ name }) => options.stream === undefined || name === options.stream);
  if (streams.length === 0) {
    throw new FreshetError("stream_unknown", `the plan has no stream ${options.stream}`, {
      field: "stream",
      repair: `use one of ${options.plan.streams.map(({ name }) => name).join(", ")}`,
    });
  }
  const tenants = (await options.mirror.folders("raw/")).map((folder) => folder.slice("tenant=".length));
  const reports: Record<string, CompactionReport> = {};
  const failures: unknown[] = [];
  for (const stream of streams) {
    try {
      reports[stream.name] = await allTenants(options, stream, tenants);
      options.onStream?.(stream.name, reports[stream.name]!);
    } catch (error) {
      options.onFailure?.(stream.name, error);
      failures.push(error);
    }
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
  return total ?? NOTHING;
}

const NOTHING: CompactionReport = {
  ...{ rawObjects: 0, rows: 0, hours: 0, writtenBytes: 0, payloadConflicts: 0, timeConflicts: 0 },
  ...{ corrupt: 0, removed: 0, left: 0 },
};

function added(a: CompactionReport, b: CompactionReport): CompactionReport {
  const names = Object.keys(a) as (keyof CompactionReport)[];
  return Object.fromEntries(names.map((name) => [name, a[name] + b[name]])) as unknown as CompactionReport;
}
