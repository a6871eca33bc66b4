import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FreshetError } from "../../core/errors.ts";
import type { CompatibilityMode } from "./compatibility.ts";
import {
  contractOf,
  renderContracts,
  renderDocumentation,
  renderShipped,
  type ShippedSchema,
} from "./contract-source.ts";
import { digestOf, fingerprintOf, type RecordSchema } from "./fingerprint.ts";

/** One shipped schema as `schemas/registry.json` records it; the schema itself is `history/<contract>/<revision>.avsc`. */
export interface RegisteredVersion {
  readonly revision: number;
  readonly fingerprint: string;
  /** See `digestOf`: notices an edited default, which the fingerprint does not. */
  readonly digest: string;
}
export interface RegisteredContract {
  readonly compatibility: CompatibilityMode;
  readonly versions: readonly RegisteredVersion[];
}
export type SchemaRegistry = Readonly<Record<string, RegisteredContract>>;

/** The folder that holds the contracts of this checkout. */
export const SCHEMA_FOLDER = fileURLToPath(new URL("../../schemas", import.meta.url));

/** Reads and writes a folder of contracts. Nothing at run time uses it: functions import the generated modules. */
export class SchemaFolder {
  readonly path: string;
  constructor(path: string = SCHEMA_FOLDER) {
    this.path = path;
  }

  /** Contract names by their files, `transactions.v1.avsc`. */
  contractNames(): string[] {
    return readdirSync(this.path)
      .filter((file) => file.endsWith(".avsc"))
      .map((file) => file.slice(0, -".avsc".length))
      .sort();
  }

  current(contract: string): RecordSchema {
    return readSchema(join(this.path, `${contract}.avsc`));
  }

  /** @returns undefined when the file is gone */
  history(contract: string, revision: number): RecordSchema | undefined {
    const path = this.historyPath(contract, revision);
    return existsSync(path) ? readSchema(path) : undefined;
  }

  historyRevisions(contract: string): number[] {
    const folder = join(this.path, "history", contract);
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .filter((file) => file.endsWith(".avsc"))
      .map((file) => Number.parseInt(file, 10))
      .sort((a, b) => a - b);
  }

  registry(): SchemaRegistry {
    const path = join(this.path, "registry.json");
    return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {};
  }

  /** Records the current schema as shipped. The caller has checked its compatibility. */
  release(contract: string, compatibility: CompatibilityMode): RegisteredVersion {
    const registry = this.registry();
    const versions = registry[contract]?.versions ?? [];
    const schema = this.current(contract);
    const version = {
      revision: (versions.at(-1)?.revision ?? 0) + 1,
      fingerprint: fingerprintOf(schema),
      digest: digestOf(schema),
    };
    mkdirSync(join(this.path, "history", contract), { recursive: true });
    writeFileSync(this.historyPath(contract, version.revision), readFileSync(join(this.path, `${contract}.avsc`)));
    this.writeRegistry({ ...registry, [contract]: { compatibility, versions: [...versions, version] } });
    return version;
  }

  setCompatibility(contract: string, compatibility: CompatibilityMode): void {
    const registry = this.registry();
    this.writeRegistry({ ...registry, [contract]: { ...registry[contract], compatibility } });
  }

  /** File name to content of the modules that are generated from this folder. */
  generated(): Readonly<Record<string, string>> {
    const registry = this.registry();
    const shipped: Record<string, ShippedSchema[]> = {};
    for (const contract of this.contractNames()) {
      shipped[contract] = (registry[contract]?.versions ?? []).flatMap(({ revision, fingerprint }) => {
        const schema = this.history(contract, revision);
        return schema === undefined ? [] : [{ revision, fingerprint, schema }];
      });
    }
    return {
      "contracts.ts": renderContracts(this.contractNames().map((name) => contractOf(name, this.current(name)))),
      "documentation.ts": renderDocumentation(
        Object.fromEntries(this.contractNames().map((name) => [name, this.current(name)])),
      ),
      "shipped.ts": renderShipped(shipped),
    };
  }

  writeGenerated(): void {
    for (const [file, content] of Object.entries(this.generated())) writeFileSync(join(this.path, file), content);
  }

  readGenerated(file: string): string | undefined {
    const path = join(this.path, file);
    return existsSync(path) ? readFileSync(path, "utf8") : undefined;
  }

  private writeRegistry(registry: SchemaRegistry): void {
    const sorted = Object.fromEntries(Object.entries(registry).sort(([a], [b]) => (a < b ? -1 : 1)));
    writeFileSync(join(this.path, "registry.json"), `${JSON.stringify(sorted, null, 2)}\n`);
  }

  private historyPath(contract: string, revision: number): string {
    return join(this.path, "history", contract, `${revision}.avsc`);
  }
}

function readSchema(path: string): RecordSchema {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new FreshetError("schema_unreadable", `${path} is no readable JSON: ${(cause as Error).message}`, {
      repair: "mend the file, or restore it from version control",
      cause,
    });
  }
}
