/**
 * Versions of models and their aliases. A model belongs to a tenant and is called as the service that it scores for.
 *
 * Table, keys `pk` and `sk` (strings):
 *   (`model#tenant/service`, `counter`)              the newest version number given out
 *   (`model#tenant/service`, `version#0000000007`)   what is known of a version; written once
 *   (`model#tenant/service`, `history#0000000012`)   one change of aliases; written once, together with the change
 *   (`aliases`, `tenant/service`)                    who is champion, challenger, shadow: one query tells all, for polling
 * Artefacts: `models/tenant=t/service/7/` in the bucket.
 */
import { hash } from "node:crypto";
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
  TransactionCanceledException,
  TransactWriteItemsCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import { type AliasChange, type Aliases, NO_ALIASES } from "../../core/scoring/aliases.ts";
import type { ArtefactStore } from "./artefact-store.ts";
import type { Manifest, MeasuredChampion, Metrics } from "./manifest.ts";
import { type ArtefactFiles, SERVED_FILES } from "./open.ts";

/** A model's line of versions. */
export interface ModelId {
  readonly tenant: string;
  readonly service: string;
}

export interface ModelVersion extends ModelId {
  readonly version: number;
  /** `fraud-lightgbm`: with the version, what answers and the log name. */
  readonly model: string;
  readonly planHash: string;
  /** `vectorHash` of the plan that it was trained under: what serving holds it to. */
  readonly vectorHash: string;
  readonly createdMs: number;
  readonly registeredMs: number;
  readonly by: string;
  readonly gitCommit: string | null;
  readonly metrics: Metrics;
  /** Absent from versions of before it was measured. */
  readonly champion?: MeasuredChampion | null;
  /** The training set's manifest. */
  readonly trainingSet: Readonly<Record<string, unknown>>;
  /** Where the artefact lies in the bucket. */
  readonly prefix: string;
  readonly manifestSha256: string;
}

/** `fraud-lightgbm@7`. */
export const modelName = ({ model, version }: Pick<ModelVersion, "model" | "version">): string => `${model}@${version}`;

const pk = ({ tenant, service }: ModelId) => `model#${tenant}/${service}`;
const padded = (number: number) => String(number).padStart(10, "0");
const S = (value: string): AttributeValue => ({ S: value });
const N = (value: number): AttributeValue => ({ N: String(value) });

export interface RegistryOptions {
  readonly table: string;
  readonly dynamodb: Pick<DynamoDBClient, "send">;
  readonly artefacts: ArtefactStore;
}

export class ModelRegistry {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;
  readonly #artefacts: ArtefactStore;

  constructor({ table, dynamodb, artefacts }: RegistryOptions) {
    this.#table = table;
    this.#dynamodb = dynamodb;
    this.#artefacts = artefacts;
  }

  /**
   * Adds a version; no alias points to it yet. A number that a failed attempt has taken is not given again.
   * @throws InfrastructureError `registry_unavailable`, as do all here, or `artefacts_unavailable`
   */
  async add(
    id: ModelId,
    files: ArtefactFiles,
    known: { manifest: Manifest; vectorHash: string; registeredMs: number; by: string },
  ): Promise<ModelVersion> {
    const version = await this.#nextVersion(id);
    const { manifest, vectorHash, registeredMs, by } = known;
    const prefix = `models/tenant=${id.tenant}/${id.service}/${version}`;
    await this.#artefacts.put(prefix, files);
    const { model, planHash, createdMs, gitCommit, metrics, champion, trainingSet } = manifest;
    const manifestSha256 = hash("sha256", files["manifest.json"], "hex");
    const record: ModelVersion = {
      ...id,
      version,
      model,
      planHash,
      vectorHash,
      createdMs,
      registeredMs,
      by,
      gitCommit,
      metrics,
      champion,
      trainingSet,
      prefix,
      manifestSha256,
    };
    const item = { pk: S(pk(id)), sk: S(`version#${padded(version)}`), record: S(JSON.stringify(record)) };
    const put = { TableName: this.#table, Item: item, ConditionExpression: "attribute_not_exists(pk)" };
    await this.#call("adding a version", async () => {
      try {
        await this.#dynamodb.send(new PutItemCommand(put));
      } catch (cause) {
        if (!(cause instanceof ConditionalCheckFailedException)) throw cause;
        // The number is ours alone: what lies there was written by an attempt whose answer was lost.
        const there = await this.#get(item.pk.S!, item.sk.S!);
        if (there?.["record"]?.S !== item.record.S) throw cause;
      }
    });
    return record;
  }

  /** @throws FreshetError `model_version_unknown` */
  async get(id: ModelId, version: number): Promise<ModelVersion> {
    const item = await this.#get(pk(id), `version#${padded(version)}`);
    if (item !== null) return JSON.parse(item["record"]!.S!);
    throw new FreshetError(
      "model_version_unknown",
      `model ${id.service} of tenant ${id.tenant} has no version ${version}`,
      {
        field: "version",
        repair: "freshet models list shows the versions",
      },
    );
  }

  /** Newest first. */
  async list(id: ModelId): Promise<ModelVersion[]> {
    const items = await this.#query(pk(id), "version#");
    return items.map(({ record }) => JSON.parse(record!.S!) as ModelVersion).reverse();
  }

  /** What serving needs of a version's artefact. @throws FreshetError `artefact_incomplete`, `artefact_digest` */
  async files(version: ModelVersion): Promise<ArtefactFiles> {
    const files = await this.#artefacts.get(version.prefix, SERVED_FILES);
    if (hash("sha256", files["manifest.json"], "hex") === version.manifestSha256) return files;
    throw new FreshetError(
      "artefact_digest",
      `manifest.json of ${modelName(version)} is not the one that was registered`,
      {
        field: "manifest.json",
        repair: "register the model again from where it was trained",
      },
    );
  }

  async aliases(id: ModelId): Promise<Aliases> {
    const item = await this.#get("aliases", `${id.tenant}/${id.service}`);
    return item === null ? NO_ALIASES : aliasesOf(item);
  }

  /** Of every model there is: one query, for polling. May be a moment old, unless `isConsistent`. */
  async allAliases(isConsistent = false): Promise<(ModelId & { readonly aliases: Aliases })[]> {
    const items = await this.#query("aliases", "", isConsistent);
    return items.map((item) => {
      const [tenant, service] = item["sk"]!.S!.split("/");
      return { tenant, service, aliases: aliasesOf(item) };
    });
  }

  /**
   * Changes aliases and writes the history, both or neither.
   * @param next with the revision after the one that the change was decided on
   * @throws FreshetError `alias_conflict` when somebody else has changed them since
   */
  async change(id: ModelId, next: Aliases, change: Omit<AliasChange, "revision">): Promise<AliasChange> {
    const { revision } = next;
    const recorded: AliasChange = { ...change, revision };
    const alias = {
      pk: S("aliases"),
      sk: S(`${id.tenant}/${id.service}`),
      aliases: S(JSON.stringify(next)),
      revision: N(revision),
    };
    const history = { pk: S(pk(id)), sk: S(`history#${padded(revision)}`), change: S(JSON.stringify(recorded)) };
    const TableName = this.#table;
    await this.#call("changing aliases", async () => {
      try {
        await this.#dynamodb.send(
          new TransactWriteItemsCommand({
            TransactItems: [
              {
                Put: {
                  TableName,
                  Item: alias,
                  ConditionExpression: revision === 1 ? "attribute_not_exists(pk)" : "revision = :before",
                  ExpressionAttributeValues: revision === 1 ? undefined : { ":before": N(revision - 1) },
                },
              },
              { Put: { TableName, Item: history, ConditionExpression: "attribute_not_exists(pk)" } },
            ],
          }),
        );
      } catch (cause) {
        if (!(cause instanceof TransactionCanceledException)) throw cause;
        throw new FreshetError("alias_conflict", `the aliases of model ${id.service} were changed meanwhile`, {
          field: "alias",
          repair: "look at them again (freshet models show) and repeat what still applies",
          cause,
        });
      }
    });
    return recorded;
  }

  /** Newest first. */
  async history(id: ModelId): Promise<AliasChange[]> {
    const items = await this.#query(pk(id), "history#");
    return items.map(({ change }) => JSON.parse(change!.S!) as AliasChange).reverse();
  }

  async #nextVersion(id: ModelId): Promise<number> {
    const { Attributes } = await this.#call("taking a version number", () =>
      this.#dynamodb.send(
        new UpdateItemCommand({
          TableName: this.#table,
          Key: { pk: S(pk(id)), sk: S("counter") },
          UpdateExpression: "ADD newest :one",
          ExpressionAttributeValues: { ":one": N(1) },
          ReturnValues: "UPDATED_NEW",
        }),
      ),
    );
    return Number(Attributes!["newest"]!.N);
  }

  async #get(partition: string, sort: string): Promise<Record<string, AttributeValue> | null> {
    const Key = { pk: S(partition), sk: S(sort) };
    const { Item } = await this.#call("reading", () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key, ConsistentRead: true })),
    );
    return Item ?? null;
  }

  async #query(partition: string, prefix: string, ConsistentRead = true): Promise<Record<string, AttributeValue>[]> {
    const items: Record<string, AttributeValue>[] = [];
    let ExclusiveStartKey: Record<string, AttributeValue> | undefined;
    do {
      const page = await this.#call("reading", () =>
        this.#dynamodb.send(
          new QueryCommand({
            TableName: this.#table,
            KeyConditionExpression: prefix === "" ? "pk = :pk" : "pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues: { ":pk": S(partition), ...(prefix === "" ? {} : { ":prefix": S(prefix) }) },
            ConsistentRead,
            ExclusiveStartKey,
          }),
        ),
      );
      items.push(...(page.Items ?? []));
      ExclusiveStartKey = page.LastEvaluatedKey;
    } while (ExclusiveStartKey !== undefined);
    return items;
  }

  async #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (cause) {
      if (cause instanceof FreshetError) throw cause;
      throw new InfrastructureError("registry_unavailable", `${what} in model table ${this.#table} failed`, {
        repair: "look at the table and at the permission on it; nothing was changed by halves",
        cause,
      });
    }
  }
}

const aliasesOf = (item: Record<string, AttributeValue>): Aliases => JSON.parse(item["aliases"]!.S!);
