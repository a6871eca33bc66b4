/** `freshet schemas push`: the contracts into a schema registry, so that producers of other systems find them. */
import { checkSchemas } from "../adapters/avro/check-schemas.ts";
import { fullNameOf } from "../adapters/avro/fingerprint.ts";
import { SchemaFolder } from "../adapters/avro/schema-folder.ts";
import { type PushedSubject, pushSubject, type SubjectToPush } from "../adapters/schema-registry/push.ts";
import { type SchemaPusher, subjectOfTopic } from "../adapters/schema-registry/schema-registry.ts";
import { FreshetError } from "../core/errors.ts";
import { optionalEnvironment } from "../functions/shared/environment.ts";
import { openRegistry } from "../functions/shared/schema-registry.ts";
import { formatTable } from "./table.ts";

export const SUBJECTS = ["topic", "record"] as const;

export interface PushOptions {
  readonly folder: string;
  readonly registry?: string;
  readonly glue?: string;
  readonly stage: string;
  readonly subjects: (typeof SUBJECTS)[number];
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** @throws FreshetError, see `pushSubject`; `option_missing`, those of `freshet schemas check` */
export async function push(options: PushOptions): Promise<void> {
  const registry = openRegistry(addressOf(options));
  const folder = new SchemaFolder(options.folder);
  const [problem] = checkSchemas(folder);
  if (problem !== undefined) {
    throw new FreshetError(problem.code, `nothing was pushed: ${problem.message}`, {
      field: problem.field,
      repair: problem.repair,
    });
  }
  const report: PushedSubject[] = [];
  for (const subject of await subjectsOf(folder, registry, options)) {
    report.push(await pushSubject(registry, subject, options.dryRun === true));
  }
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify({ registry: registry.name, dry_run: options.dryRun === true, subjects: report }, null, 2)}\n`,
    );
  } else process.stdout.write(render(registry.name, report, options.dryRun === true));
}

/** What --registry and --glue say, as `openRegistry` takes it. */
export const givenRegistry = ({ registry, glue }: Pick<PushOptions, "registry" | "glue">): string | undefined =>
  glue === undefined ? registry : `glue:${glue}`;

function addressOf(options: PushOptions): string {
  const given = givenRegistry(options) ?? optionalEnvironment("schemaRegistry");
  if (given !== undefined) return given;
  throw new FreshetError("option_missing", "no schema registry is given", {
    repair: "pass --registry <address> or --glue <name>, or set FRESHET_SCHEMA_REGISTRY",
  });
}

/**
 * Named as serializers name them by themselves, by the topic, or by the record.
 * A contract of several streams has a subject for each topic.
 */
async function subjectsOf(
  folder: SchemaFolder,
  pusher: SchemaPusher,
  { stage, subjects }: PushOptions,
): Promise<SubjectToPush[]> {
  const { plan } = await import("../features/plan.ts");
  const found = new Map<string, SubjectToPush>();
  const registered = folder.registry();
  for (const { name, contract } of plan.streams) {
    const { compatibility, versions } = registered[contract]!;
    const shipped = versions.map(({ revision }) => ({ revision, schema: folder.history(contract, revision)! }));
    const topic = `freshet-${stage}-${name.replaceAll("_", "-")}`;
    const subject = subjects === "topic" ? subjectOfTopic(pusher, topic) : fullNameOf(shipped.at(-1)!.schema);
    found.set(subject, { contract, subject, compatibility, shipped });
  }
  return [...found.values()];
}

function render(registry: string, report: readonly PushedSubject[], dryRun: boolean): string {
  const rows = report.flatMap(({ contract, subject, rule, versions }) => [
    [contract, subject, rule.was === rule.is ? rule.is : `${rule.was ?? "no rule"} → ${rule.is}`],
    ...versions.map(({ revision, status, id }) => [
      "",
      `revision ${revision}`,
      id === null ? status : `${status}, ${id}`,
    ]),
  ]);
  const added = report.flatMap(({ versions }) => versions).filter(({ status }) => status === "new").length;
  const end = dryRun ? `Would add ${added}; nothing was changed.` : `Added ${added} to ${registry}.`;
  return `${formatTable(rows, "")}\n${end}\n`;
}
