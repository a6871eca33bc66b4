import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { checkSchemas, type Problem, RESOLVED_BY_RELEASE } from "../../adapters/avro/check-schemas.ts";
import { COMPATIBILITY_MODES, type CompatibilityMode } from "../../adapters/avro/compatibility.ts";
import { contractOf } from "../../adapters/avro/contract-source.ts";
import { digestOf, fingerprintOf, type RecordSchema } from "../../adapters/avro/fingerprint.ts";
import { appendGolden, goldenEvent } from "../../adapters/avro/golden-bytes.ts";
import { SCHEMA_FOLDER, SchemaFolder } from "../../adapters/avro/schema-folder.ts";
import { FreshetError } from "../../core/errors.ts";
import { whole } from "../arguments.ts";
import { addExamples } from "../examples.ts";
import { EXIT } from "../exit.ts";
import { push, SUBJECTS } from "../schema-push.ts";
import { formatTable } from "../table.ts";

interface Shared {
  readonly folder: string;
  readonly json?: boolean;
}

export function register(program: Command): void {
  const schemas = program
    .command("schemas")
    .description("Contracts of events: check, release, look at them, and push them to a schema registry.");
  const command = (signature: string, description: string): Command =>
    schemas
      .command(signature)
      .description(description)
      .addOption(new Option("--folder <path>", "folder of the contracts").default(SCHEMA_FOLDER, "schemas/"))
      .option("--json", "print JSON");

  command(
    "check",
    "Refuse a change that breaks readers, an edited shipped version, a missing release. Exit code 1.",
  ).action(check);
  command("list", "Every contract with its shipped revisions and fingerprints.").action(list);
  command("show <contract>", "The fields of a contract with their documentation.")
    .option("--revision <n>", "a shipped revision instead of the current schema", whole(1, 1e6))
    .action(show);
  command("fingerprint <schema>", "CRC-64-AVRO of a contract, or of an .avsc file.").action(fingerprint);
  command("types", "Write the modules that are generated from the contracts.").action(types);
  command("release <contract>", "Record the current schema as shipped, when it is compatible.")
    .addOption(
      new Option(
        "--compatibility <mode>",
        "what later changes must keep (default: as before, or full-transitive)",
      ).choices(COMPATIBILITY_MODES),
    )
    .action(release);
  command("push", "Register every shipped version with a schema registry, under the rule that changes here must keep.")
    .option("--registry <address>", "a registry with Confluent's API (default: FRESHET_SCHEMA_REGISTRY)")
    .option("--glue <name>", "a registry of AWS Glue, with the environment's credentials and region")
    .option("--stage <name>", "whose topics subjects are named by: freshet-<stage>-<stream>", "local")
    .addOption(
      new Option("--subjects <by>", "names of subjects: by topic (<topic>-value; in Glue <topic>), or by record")
        .choices(SUBJECTS)
        .default("topic"),
    )
    .option("--dry-run", "say what would be new, change nothing")
    .addHelpText(
      "after",
      `
Credentials of a registry are in FRESHET_SCHEMA_REGISTRY_CREDENTIALS, as {"username": "…", "password": "…"} or {"token": "…"}.
What is registered already stays as it is. Nothing is pushed that breaks a shipped version, and nothing beside a version that
the contract could not read.`,
    )
    .action(push);
  addExamples(schemas, [
    "freshet schemas check",
    "freshet schemas list",
    "freshet schemas show transactions.v1",
    "freshet schemas fingerprint transactions.v1",
    "freshet schemas types",
    "freshet schemas release labels.v1",
    "freshet schemas push --registry https://registry.example.com --stage prod --dry-run",
    "freshet schemas push --glue freshet",
  ]);
}

function check({ folder, json }: Shared): void {
  const problems = checkSchemas(new SchemaFolder(folder));
  if (json) print(problems);
  else if (problems.length === 0) process.stdout.write("Contracts are compatible with every shipped version.\n");
  else process.stdout.write(problems.map(formatProblem).join(""));
  if (problems.length > 0) process.exitCode = EXIT.failed;
}

function formatProblem({ contract, code, message, repair }: Problem): string {
  return `${contract}: ${message} [${code}]\n  repair: ${repair}\n`;
}

function list({ folder: path, json }: Shared): void {
  const folder = new SchemaFolder(path);
  const registry = folder.registry();
  const contracts = folder.contractNames().map((contract) => ({
    contract,
    compatibility: registry[contract]?.compatibility ?? null,
    released: registry[contract]?.versions.at(-1)?.digest === digestOf(folder.current(contract)),
    versions: (registry[contract]?.versions ?? []).map(({ revision, fingerprint }) => ({ revision, fingerprint })),
  }));
  if (json) {
    print(contracts);
    return;
  }
  const rows = contracts.flatMap(({ contract, compatibility, released, versions }) => [
    [contract, compatibility ?? "never shipped", released ? "" : "the current schema is not released"],
    ...versions.map(({ revision, fingerprint }) => ["", `revision ${revision}`, fingerprint]),
  ]);
  process.stdout.write(`${formatTable(rows, "")}\n`);
}

function show(contract: string, { folder: path, json, revision }: Shared & { revision?: number }): void {
  const schema = schemaOf(new SchemaFolder(path), contract, revision);
  if (json) {
    print(schema);
    return;
  }
  const { fields } = contractOf(contract, schema);
  const rows = schema.fields.map(({ name, doc, default: fallback }) => [
    name,
    fields[name].type + (fields[name].nullable ? ", or null" : ""),
    fallback === undefined ? "" : `default ${JSON.stringify(fallback)}`,
    doc ?? "",
  ]);
  process.stdout.write(`${contract}  ${fingerprintOf(schema)}\n${schema.doc ?? ""}\n\n${formatTable(rows)}\n`);
}

function fingerprint(schema: string, { folder, json }: Shared): void {
  const read = (): RecordSchema => JSON.parse(readFileSync(schema, "utf8"));
  const value = fingerprintOf(existsSync(schema) ? read() : schemaOf(new SchemaFolder(folder), schema));
  if (json) print({ schema, fingerprint: value });
  else process.stdout.write(`${value}\n`);
}

function types({ folder: path, json }: Shared): void {
  const folder = new SchemaFolder(path);
  const wrong = checkSchemas(folder).filter(({ code }) => !RESOLVED_BY_RELEASE.includes(code));
  if (wrong.length > 0) throw refusal("types are only written from contracts that pass the check", wrong);
  folder.writeGenerated();
  if (json) print({ written: Object.keys(folder.generated()) });
  else process.stdout.write(`Wrote ${Object.keys(folder.generated()).join(", ")}.\n`);
}

function release(
  contract: string,
  { folder: path, json, compatibility }: Shared & { compatibility?: CompatibilityMode },
): void {
  const folder = new SchemaFolder(path);
  const schema = schemaOf(folder, contract);
  const problems = checkSchemas(folder).filter((problem) => problem.contract === contract);
  const wrong = problems.filter(({ code }) => !RESOLVED_BY_RELEASE.includes(code));
  if (wrong.length > 0) throw refusal(`${contract} cannot be released`, wrong);
  const registered = folder.registry()[contract];
  const mode = compatibility ?? registered?.compatibility ?? "full-transitive";
  if (problems.length === 0) {
    if (mode !== registered.compatibility) folder.setCompatibility(contract, mode);
    if (json) print({ contract, released: false, compatibility: mode });
    else process.stdout.write(`${contract} is released already; its compatibility is ${mode}.\n`);
    return;
  }
  const version = folder.release(contract, mode);
  folder.writeGenerated();
  const golden = join(path, "../test/fixtures/golden/events.json");
  if (existsSync(golden)) appendGolden(golden, goldenEvent(contract, version.revision, schema));
  if (json) print({ contract, released: true, compatibility: mode, ...version });
  else {
    process.stdout.write(
      `Released revision ${version.revision} of ${contract}, fingerprint ${version.fingerprint}, ${mode}.\n` +
        "Commit schemas/ and its golden bytes together; deploy readers before producers write it.\n",
    );
  }
}

/** @throws FreshetError `contract_unknown`, `revision_unknown` */
function schemaOf(folder: SchemaFolder, contract: string, revision?: number): RecordSchema {
  if (!folder.contractNames().includes(contract)) {
    throw new FreshetError("contract_unknown", `there is no contract ${contract}`, {
      repair: `use one of ${folder.contractNames().join(", ")}`,
    });
  }
  if (revision === undefined) return folder.current(contract);
  const schema = folder.history(contract, revision);
  if (schema !== undefined) return schema;
  throw new FreshetError("revision_unknown", `${contract} has no revision ${revision}`, {
    repair: `use one of ${folder.historyRevisions(contract).join(", ")}`,
  });
}

function refusal(rule: string, problems: readonly Problem[]): FreshetError {
  const [first] = problems;
  return new FreshetError(first.code, `${rule}: ${problems.map(({ message }) => message).join("; ")}`, {
    field: first.field,
    repair: first.repair,
  });
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
