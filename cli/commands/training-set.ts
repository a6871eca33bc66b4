import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { spineFile } from "../../adapters/offline/given-spine.ts";
import { loggedScores } from "../../adapters/offline/logged-spine.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { archiveMount } from "../../adapters/offline/mount.ts";
import { valuesMount } from "../../adapters/offline/pushed-in-time.ts";
import type { AsOfRule, TrainingManifest } from "../../adapters/offline/training-manifest.ts";
import { buildTrainingSet, type SpineSource } from "../../adapters/offline/training-set.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { parseDuration } from "../../core/duration.ts";
import { FreshetError } from "../../core/errors.ts";
import { checkTenant } from "../../core/event.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import { freshetHome, homeFolder } from "../../local/home.ts";
import { interruptible } from "../../local/interrupt.ts";
import { time, whole } from "../arguments.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { progressBar } from "../progress.ts";
import { registeredInputs } from "../registered-inputs.ts";
import { formatTable } from "../table.ts";

const STEPS = { spine: "finding the rows", features: "joining features", write: "writing" } as const;

interface SetOptions extends StageOption {
  readonly service: string;
  readonly labels?: string;
  readonly asOf: AsOfRule;
  readonly spine?: string;
  readonly query?: string;
  readonly fromLog?: boolean;
  readonly from?: number;
  readonly to?: number;
  readonly out: string;
  readonly tenant: string;
  readonly memory: number;
  readonly skipCorrupt?: boolean;
}

/** More rows than this that see their own event are no accident of clocks. */
const OWN_EVENT_SHARE = 0.02;

interface Options extends SetOptions {
  readonly json?: boolean;
}

export function register(program: Command): void {
  program
    .command("training-set")
    .description("Features as they were at each labelled event, from the archive, as Parquet with a manifest.")
    .requiredOption("--service <name>", "the feature service")
    .option("--labels <stream>", "the stream of outcomes; by default the service's")
    .addOption(
      new Option("--as-of <rule>", "the instant of an event at which its row is read")
        .choices(["event_time", "arrival"])
        .default("event_time"),
    )
    .addOption(
      new Option(
        "--spine <file>",
        "rows of yours instead of labels: CSV or Parquet with a time and join keys",
      ).conflicts(["labels", "query"]),
    )
    .addOption(new Option("--query <sql>", "the same as a query that DuckDB runs").conflicts("labels"))
    .addOption(
      new Option(
        "--from-log",
        "what was scored, at the instant of its score, instead of all labelled events",
      ).conflicts(["spine", "query", "asOf"]),
    )
    .option("--from <time>", "first event time; all when left out", time)
    .option("--to <time>", "end of event times, exclusive", time)
    .requiredOption("--out <folder>", "a folder that is not there yet, or empty")
    .option("--tenant <name>", "whose archive", "default")
    .option("--memory <MB>", "for DuckDB; what needs more is spilled to disk", whole(256, 1_000_000), 4096)
    .option("--skip-corrupt", "go on without archive objects that cannot be read; the manifest names them")
    .addOption(stageOption())
    .option("--json", "print the manifest as JSON; progress goes to stderr")
    .addHelpText(
      "after",
      "\nA spine's time column is as_of_ms, as_of, event_time_ms, event_time or timestamp (epoch milliseconds or a timestamp)." +
        "\nIts columns event_id and label are taken, other columns are kept.\n\nExamples:" +
        "\n  freshet training-set --service fraud --from 2026-11-01 --to 2026-11-15 --out ./set" +
        "\n  freshet training-set --service fraud --from-log --from 2026-11-01 --out ./set" +
        "\n  freshet training-set --service fraud --spine cases.csv --out ./set" +
        `\n  python -c "import pandas; print(pandas.read_parquet('set/part-00000.parquet'))"`,
    )
    .action(async (options: Options) => {
      const manifest = await interruptible((signal) => buildSet(options, signal));
      process.stdout.write(options.json ? `${JSON.stringify(manifest, null, 2)}\n` : render(manifest, options.out));
    });
}

/** Also what `freshet train` does before it trains. */
export async function buildSet(options: SetOptions, signal: AbortSignal): Promise<TrainingManifest> {
  const service = plan.services.find(({ name }) => name === options.service);
  const definition = definitions.services.find(({ name }) => name === options.service);
  if (service === undefined || definition === undefined) {
    throw new FreshetError("service_unknown", `there is no feature service ${options.service}`, {
      field: "service",
      repair: `use one of ${plan.services.map(({ name }) => name).join(", ")}`,
    });
  }
  checkTenant(options.tenant);
  const asked = spineOf(options, definition.labels?.stream.name);
  const deployment = await openDeployment(options);
  const s3 = s3Client(deployment.clientConfig);
  const { tenant } = options;
  const spine =
    options.fromLog && asked.kind === "labels"
      ? loggedScores(s3, deployment.archiveBucket, { tenant, service: service.name, stream: asked.stream })
      : asked;
  const home = freshetHome();
  const session = await DuckSession.open({ folder: homeFolder(home, "offline"), memoryMb: options.memory });
  const stop = () => session.interrupt();
  signal.addEventListener("abort", stop, { once: true });
  const bar = progressBar();
  try {
    const mirror = new ArchiveMirror({ s3, bucket: deployment.archiveBucket, folder: homeFolder(home, "offline") });
    return await buildTrainingSet(session, {
      plan,
      service,
      definition,
      tenant: options.tenant,
      spine,
      fromMs: options.from ?? null,
      toMs: options.to ?? null,
      labelDelayMs: definition.labels === null ? null : parseDuration(definition.labels.delay),
      inputs: await registeredInputs(deployment, service, tenant),
      mount: archiveMount(session, mirror, options.tenant, {
        skipCorrupt: options.skipCorrupt,
        onProgress: (share) => bar.show(share, "reading the archive"),
      }),
      mountValues: valuesMount(session, mirror, options.tenant, { skipCorrupt: options.skipCorrupt }),
      out: resolve(options.out),
      onProgress: (step, share) => bar.show(share, STEPS[step]),
    });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    bar.end();
    signal.removeEventListener("abort", stop);
    session.close();
    s3.destroy();
  }
}

function spineOf({ labels, asOf, spine, query, service }: SetOptions, declared: string | undefined): SpineSource {
  if (spine !== undefined) {
    if (!existsSync(spine)) {
      throw new FreshetError("spine_unreadable", `there is no file ${spine}`, {
        field: "spine",
        repair: "name a CSV or Parquet file with a time and the join keys of the rows",
      });
    }
    return spineFile(resolve(spine));
  }
  if (query !== undefined) return { kind: "query", query };
  const stream = labels ?? declared;
  if (stream !== undefined) return { kind: "labels", stream, asOf };
  throw new FreshetError("labels_missing", `service ${service} declares no labels`, {
    field: "labels",
    repair: "give --labels with a stream, or --spine with rows of your own",
  });
}

function render(manifest: TrainingManifest, out: string): string {
  const {
    row_count,
    positives,
    own_event_visible_rows,
    left_out,
    features,
    sources,
    entities = [],
    plan_hash,
  } = manifest;
  const rows = [
    ["rows", String(row_count)],
    ["positives", String(positives)],
    ["columns that a model sees", String(features.length)],
    ["rows whose own event was visible", own_event_visible_rows === null ? "-" : String(own_event_visible_rows)],
    ...Object.entries(left_out).map(([reason, count]) => [`left out: ${reason}`, String(count)]),
    ...entities.map(({ join_key, rows_with_key, found_share }) => [
      `rows with a ${join_key} / known to the archive`,
      `${rows_with_key} / ${found_share === null ? "-" : `${(found_share * 100).toFixed(1)} %`}`,
    ]),
    ...sources.map((source) => [`objects of ${source.stream}`, String(source.raw_objects + source.compacted_objects)]),
    ...sources
      .filter(({ corrupt_objects }) => corrupt_objects.length > 0)
      .map(({ stream, corrupt_objects }) => [`damaged objects of ${stream}, left out`, String(corrupt_objects.length)]),
    ["plan", plan_hash],
  ];
  const own = own_event_visible_rows ?? 0;
  const leak =
    own > row_count * OWN_EVENT_SHARE
      ? `\n${own} of ${row_count} rows see their own event, as a caller who scores before sending never does: a model would learn\nfrom it. Import history with --arrival 1s, or give a spine of earlier instants.\n`
      : "";
  return `${formatTable(rows)}\n${leak}\n${out}\n`;
}
