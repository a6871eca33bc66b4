/** AWS Glue's schema registry. A schema is named as AWS's own serializers name it: by the stream or topic. */
import {
  type Compatibility,
  CreateSchemaCommand,
  EntityNotFoundException,
  GetSchemaByDefinitionCommand,
  GetSchemaCommand,
  GetSchemaVersionCommand,
  type GlueClient,
  InvalidInputException,
  ListSchemaVersionsCommand,
  RegisterSchemaVersionCommand,
  UpdateSchemaCommand,
} from "@aws-sdk/client-glue";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import type { SchemaId } from "../avro/framing.ts";
import type { FoundSchema, SchemaPusher, SchemaRegistry, SchemaToPush } from "./schema-registry.ts";

export class GlueRegistry implements SchemaRegistry, SchemaPusher {
  readonly name: string;
  private readonly registry: string;
  private readonly client: Pick<GlueClient, "send">;
  private readonly pause: (ms: number) => Promise<unknown>;

  constructor(options: {
    readonly registry: string;
    readonly client: Pick<GlueClient, "send">;
    readonly pause?: (ms: number) => Promise<unknown>;
  }) {
    this.registry = options.registry;
    this.name = `glue:${options.registry}`;
    this.client = options.client;
    this.pause = options.pause ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
  }

  async find(id: SchemaId): Promise<FoundSchema | null> {
    if (!id.startsWith("glue-")) return null;
    const SchemaVersionId = id.slice("glue-".length);
    const found = await this.ask(() => this.client.send(new GetSchemaVersionCommand({ SchemaVersionId })));
    // One that failed its check was never a version that anybody may write with.
    if (found === null || found.Status === "FAILURE") return null;
    if (found.Status === "PENDING" || found.SchemaDefinition === undefined) throw this.unavailable(`${id} is pending`);
    return { text: found.DataFormat === "AVRO" ? found.SchemaDefinition : null };
  }

  async lookUp({ subject, text }: SchemaToPush): Promise<SchemaId | null> {
    const given = { SchemaId: this.schemaId(subject), SchemaDefinition: text };
    const found = await this.ask(() => this.client.send(new GetSchemaByDefinitionCommand(given)));
    return found?.SchemaVersionId === undefined || found.Status !== "AVAILABLE"
      ? null
      : `glue-${found.SchemaVersionId}`;
  }

  async versions(subject: string): Promise<readonly string[]> {
    const numbers: number[] = [];
    let NextToken: string | undefined;
    do {
      const given = { SchemaId: this.schemaId(subject), NextToken };
      const page = await this.ask(() => this.client.send(new ListSchemaVersionsCommand(given)));
      const available = page?.Schemas?.filter(({ Status }) => Status === "AVAILABLE") ?? [];
      numbers.push(...available.map(({ VersionNumber }) => VersionNumber!));
      NextToken = page?.NextToken;
    } while (NextToken);
    const texts: string[] = [];
    for (const VersionNumber of numbers.sort((a, b) => a - b)) {
      const given = { SchemaId: this.schemaId(subject), SchemaVersionNumber: { VersionNumber } };
      const found = await this.ask(() => this.client.send(new GetSchemaVersionCommand(given)));
      if (found?.DataFormat === "AVRO") texts.push(found.SchemaDefinition!);
    }
    return texts;
  }

  async compatibility(subject: string): Promise<string | null> {
    const given = { SchemaId: this.schemaId(subject) };
    return (await this.ask(() => this.client.send(new GetSchemaCommand(given))))?.Compatibility ?? null;
  }

  readonly ruleOf = (mode: string): string => mode.toUpperCase().replace("-TRANSITIVE", "_ALL");

  async setCompatibility(subject: string, rule: string): Promise<void> {
    // The rule of a schema that is not there yet is given to it when it is made.
    const given = { SchemaId: this.schemaId(subject), Compatibility: rule as Compatibility };
    await this.ask(() => this.client.send(new UpdateSchemaCommand(given)));
  }

  async register({ subject, text }: SchemaToPush, rule: string): Promise<SchemaId> {
    const given = { SchemaId: this.schemaId(subject), SchemaDefinition: text };
    const added = await this.refusable(subject, () => this.client.send(new RegisterSchemaVersionCommand(given)));
    if (added !== null) return this.settled(subject, added.SchemaVersionId!, added.Status);
    const made = await this.refusable(subject, () =>
      this.client.send(
        new CreateSchemaCommand({
          RegistryId: { RegistryName: this.registry },
          SchemaName: subject,
          DataFormat: "AVRO",
          Compatibility: rule as Compatibility,
          SchemaDefinition: text,
        }),
      ),
    );
    if (made === null) {
      throw new FreshetError("schema_registry_missing", `there is no Glue registry ${this.registry}`, {
        repair: `aws glue create-registry --registry-name ${this.registry}`,
      });
    }
    return this.settled(subject, made.SchemaVersionId!, made.SchemaVersionStatus);
  }

  /** Glue checks a version after it has taken it. */
  private async settled(subject: string, SchemaVersionId: string, status: string | undefined): Promise<SchemaId> {
    let now = status;
    for (let attempt = 0; now === "PENDING" && attempt < 20; attempt++) {
      await this.pause(500);
      now = (await this.ask(() => this.client.send(new GetSchemaVersionCommand({ SchemaVersionId }))))?.Status;
    }
    if (now === "AVAILABLE") return `glue-${SchemaVersionId}`;
    if (now === "PENDING") throw this.unavailable(`version ${SchemaVersionId} of ${subject} is still pending`);
    throw refused(subject, "it breaks the schema's compatibility rule");
  }

  private async refusable<T>(subject: string, call: () => Promise<T>): Promise<T | null> {
    try {
      return await this.ask(call);
    } catch (error) {
      const { cause } = error as { cause?: unknown };
      if (cause instanceof InvalidInputException) throw refused(subject, cause.message.slice(0, 500));
      throw error;
    }
  }

  private schemaId(subject: string) {
    return { RegistryName: this.registry, SchemaName: subject };
  }

  /** Null where there is no such thing. */
  private async ask<T>(call: () => Promise<T>): Promise<T | null> {
    try {
      return await call();
    } catch (cause) {
      if (cause instanceof EntityNotFoundException) return null;
      throw this.unavailable(cause instanceof Error ? cause.name : "an unknown error", cause);
    }
  }

  private unavailable(what: string, cause?: unknown): InfrastructureError {
    return new InfrastructureError("schema_registry_unavailable", `schema registry ${this.name}: ${what}`, {
      repair: "restore Glue, the way to it, or the function's permission; records whose schema is known go on",
      cause,
    });
  }
}

const refused = (subject: string, why: string): FreshetError =>
  new FreshetError("schema_refused", `the registry refuses the schema under ${subject}: ${why}`, {
    repair: "make the contract compatible with what is registered there, or push to another subject",
  });
