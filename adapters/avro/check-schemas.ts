import { FreshetError } from "../../core/errors.ts";
import { incompatibilities } from "./compatibility.ts";
import { contractOf } from "./contract-source.ts";
import { digestOf, fingerprintOf, parseSchema, type RecordSchema } from "./fingerprint.ts";
import { type RegisteredContract, SchemaFolder } from "./schema-folder.ts";

/** What is wrong with the contracts, for people and for synth. */
export interface Problem {
  /** `schemas` where no contract is to blame. */
  readonly contract: string;
  readonly code: string;
  readonly field?: string;
  readonly message: string;
  readonly repair: string;
}

/** Codes that `freshet schemas release` and `types` resolve; all others need an edit. */
export const RESOLVED_BY_RELEASE: readonly string[] = ["contract_unreleased", "change_unreleased", "generated_stale"];

/**
 * Everything that must hold before contracts are deployed: shipped versions untouched, the current one compatible and
 * recorded, documentation on every field, generated modules current. Reads files, writes none.
 */
export function checkSchemas(folder = new SchemaFolder()): Problem[] {
  const registry = folder.registry();
  const names = folder.contractNames();
  const removed = Object.keys(registry).filter((name) => !names.includes(name));
  const problems = [
    ...removed.map((contract) => ({
      contract,
      code: "contract_removed",
      message: `${contract} was shipped, and ${contract}.avsc is gone`,
      repair: "restore the file: archived events need it for ever",
    })),
    ...names.flatMap((name) => checkContract(folder, name, registry[name])),
  ];
  // Modules cannot be generated from schemas that are wrong in themselves.
  if (problems.some(({ code }) => !RESOLVED_BY_RELEASE.includes(code))) return problems;
  return [...problems, ...staleModules(folder)];
}

function checkContract(folder: SchemaFolder, contract: string, registered: RegisteredContract | undefined): Problem[] {
  const current = folder.current(contract);
  const problems = [...checkHistory(folder, contract, registered), ...checkSchema(contract, current)];
  if (problems.length > 0) return problems;
  const last = registered?.versions.at(-1);
  if (registered === undefined || last === undefined) {
    return [
      {
        contract,
        code: "contract_unreleased",
        message: `${contract} has never been shipped`,
        repair: `run freshet schemas release ${contract}`,
      },
    ];
  }
  const shipped = registered.versions.map(({ revision }) => ({
    revision,
    schema: folder.history(contract, revision)!,
  }));
  const broken = incompatibilities(current, shipped, registered.compatibility);
  if (broken.length > 0) return broken.map((one) => ({ contract, ...one }));
  if (digestOf(current) === last.digest) return [];
  return [
    {
      contract,
      code: "change_unreleased",
      message: `${contract}.avsc differs from revision ${last.revision}, which is the last that was shipped; the change is compatible`,
      repair: `run freshet schemas release ${contract}`,
    },
  ];
}

function checkHistory(folder: SchemaFolder, contract: string, registered: RegisteredContract | undefined): Problem[] {
  const versions = registered?.versions ?? [];
  const recorded = versions.flatMap(({ revision, fingerprint, digest }): Problem[] => {
    const schema = folder.history(contract, revision);
    if (schema === undefined) {
      return [
        {
          contract,
          code: "history_missing",
          message: `revision ${revision} of ${contract} was shipped, and history/${contract}/${revision}.avsc is gone`,
          repair: "restore the file from version control: archived events need it for ever",
        },
      ];
    }
    if (digestOf(schema) === digest && fingerprintOf(schema) === fingerprint) return [];
    return [
      {
        contract,
        code: "shipped_edited",
        message: `revision ${revision} of ${contract} was edited after it was shipped (its fingerprint was ${fingerprint} and is ${fingerprintOf(schema)})`,
        repair: `restore history/${contract}/${revision}.avsc from version control, and make the change in ${contract}.avsc`,
      },
    ];
  });
  const strangers = folder.historyRevisions(contract).filter((n) => !versions.some(({ revision }) => revision === n));
  return [
    ...recorded,
    ...strangers.map((revision) => ({
      contract,
      code: "history_unregistered",
      message: `history/${contract}/${revision}.avsc is not in registry.json`,
      repair: "delete it; freshet schemas release writes history",
    })),
  ];
}

function checkSchema(contract: string, schema: RecordSchema): Problem[] {
  try {
    parseSchema(schema);
    contractOf(contract, schema);
  } catch (error) {
    const known = error instanceof FreshetError ? error : undefined;
    return [
      {
        contract,
        code: known?.code ?? "schema_invalid",
        field: known?.field,
        message: known?.message ?? `${contract}.avsc is no valid Avro schema: ${(error as Error).message}`,
        repair: known?.repair ?? "mend the schema; the Avro specification tells what a record may hold",
      },
    ];
  }
  const tenant = schema.fields.find(({ name }) => name === "tenant");
  const undocumented = schema.fields.filter(({ doc }) => (doc ?? "").trim() === "");
  return [
    ...(tenant?.type === "string" && tenant.default === undefined
      ? []
      : [
          {
            contract,
            code: "tenant_required",
            field: "tenant",
            message: `${contract} needs a field tenant of type string without a default: every stored key begins with it`,
            repair: 'add { "name": "tenant", "type": "string", "doc": … }',
          },
        ]),
    ...undocumented.map(({ name }) => ({
      contract,
      code: "doc_missing",
      field: name,
      message: `field ${name} of ${contract} has no doc, and the doc is the contract's documentation`,
      repair: `add "doc" to ${name}`,
    })),
  ];
}

function staleModules(folder: SchemaFolder): Problem[] {
  const stale = Object.entries(folder.generated())
    .filter(([file, content]) => folder.readGenerated(file) !== content)
    .map(([file]) => file);
  if (stale.length === 0) return [];
  const message = `${stale.join(", ")} ${stale.length === 1 ? "is" : "are"} not what the contracts generate`;
  return [{ contract: "schemas", code: "generated_stale", message, repair: "run freshet schemas types" }];
}
