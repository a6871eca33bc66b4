/**
 * Pushed features that tenants have registered.
 *
 * Table, keys `pk` and `sk` (strings); pk is the tenant:
 *   `head`                            `revision`, one more with each change, and `features`, how many versions there are
 *   `view#profile`                    `next_id`, the next id of the view
 *   `feature#profile:age@0000000001`  `record`, a version as JSON
 *   `current#profile:age`             `version`, what the name alone means
 * A change is one transaction with the revision, so who sees the revision sees the change.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type AttributeValue,
  type DynamoDBClient,
  GetItemCommand,
  QueryCommand,
  TransactionCanceledException,
  type TransactWriteItem,
  TransactWriteItemsCommand,
} from "@aws-sdk/client-dynamodb";
import { formatDuration } from "../../core/duration.ts";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import {
  differences,
  fullName,
  type PushedFeature,
  type Registration,
  versionedName,
} from "../../core/pushed-feature.ts";
import { backoffMs } from "../backoff.ts";

/** What a tenant has registered, as of a revision. */
export interface TenantRegistrations {
  readonly revision: number;
  readonly features: readonly PushedFeature[];
  /** Version that a name without one means, by `view:feature`. */
  readonly current: ReadonlyMap<string, number>;
}

export interface RegisterOptions {
  /** Whether what is not the contract may replace what a version says already. */
  readonly replace: boolean;
  /** Whether the name alone means this version from now on; a first version it always means. */
  readonly current: boolean;
  readonly nowMs: number;
}
export interface Registered {
  readonly feature: PushedFeature;
  readonly outcome: "created" | "changed" | "unchanged";
  /** What the name alone means now. */
  readonly current: number;
}

/** Bounds what each host holds of a tenant. */
export const MAX_FEATURES = 5_000;
/** A view's values of an entity are one field, which a push takes apart inside the store: this and the length of texts bound it. */
const MAX_VIEW_FEATURES = 500;
/** Of one registration; API Gateway gives a call 29 s. */
const PATIENCE_MS = 20_000;
const PAUSE = { firstMs: 40, longestMs: 1_000 };

const S = (value: string): AttributeValue => ({ S: value });
const N = (value: number): AttributeValue => ({ N: String(value) });
const featureKey = (feature: Pick<Registration, "view" | "key" | "version">) =>
  `feature#${fullName(feature)}@${String(feature.version).padStart(10, "0")}`;
const currentKey = (feature: Pick<Registration, "view" | "key">) => `current#${fullName(feature)}`;
const viewKey = ({ view }: Pick<Registration, "view">) => `view#${view}`;

export class FeatureRegistry {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;
  readonly #patienceMs: number;
  /** By tenant: settles when the last of this process' registrations has ended. */
  readonly #turns = new Map<string, Promise<void>>();

  /** @param patienceMs how long a registration tries while others come before it. @default 20 s */
  constructor(options: { table: string; dynamodb: Pick<DynamoDBClient, "send">; patienceMs?: number }) {
    this.#table = options.table;
    this.#dynamodb = options.dynamodb;
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
  }

  /**
   * @param known revision that the caller has
   * @returns null when nothing has changed since
   * @throws InfrastructureError `catalogue_unavailable`, as do all here
   */
  async load(tenant: string, known: number | null): Promise<TenantRegistrations | null> {
    const head = await this.#get(tenant, "head");
    const revision = Number(head?.["revision"]?.N ?? 0);
    if (revision === known) return null;
    if (revision === 0) return { revision, features: [], current: new Map() };
    const features: PushedFeature[] = [];
    const current = new Map<string, number>();
    let start: Record<string, AttributeValue> | undefined;
    do {
      const page = await this.#call("reading registered features", () =>
        this.#dynamodb.send(
          new QueryCommand({
            TableName: this.#table,
            KeyConditionExpression: "pk = :tenant",
            ExpressionAttributeValues: { ":tenant": S(tenant) },
            ConsistentRead: true,
            ExclusiveStartKey: start,
          }),
        ),
      );
      for (const item of page.Items ?? []) {
        const sk = item["sk"].S!;
        if (sk.startsWith("feature#")) features.push(JSON.parse(item["record"].S!));
        else if (sk.startsWith("current#")) current.set(sk.slice("current#".length), Number(item["version"].N));
      }
      start = page.LastEvaluatedKey;
    } while (start !== undefined);
    return { revision, features, current };
  }

  /**
   * Registers a version. Doing so again with the same changes nothing; of many at once each gets an id of its own.
   * @throws FreshetError `feature_conflict`, `feature_limit`, `catalogue_busy`
   */
  register(tenant: string, given: Registration, options: RegisterOptions): Promise<Registered> {
    const untilMs = performance.now() + this.#patienceMs;
    // All change the tenant's head, so those of one process go one after the other; other processes are met by trying again.
    const before = this.#turns.get(tenant) ?? Promise.resolve();
    const registered = before.then(() => this.#register(tenant, given, options, untilMs));
    const ended = registered.then(
      () => {},
      () => {},
    );
    this.#turns.set(tenant, ended);
    void ended.then(() => this.#turns.get(tenant) === ended && this.#turns.delete(tenant));
    return registered;
  }

  async #register(tenant: string, given: Registration, options: RegisterOptions, untilMs: number): Promise<Registered> {
    for (let attempt = 0; performance.now() < untilMs; attempt++) {
      if (attempt > 0) await sleep(backoffMs(attempt, PAUSE));
      const [stored, pointer, counter] = await Promise.all([
        this.#get(tenant, featureKey(given)),
        this.#get(tenant, currentKey(given)),
        this.#get(tenant, viewKey(given)),
      ]);
      const before = stored === null ? null : (JSON.parse(stored["record"].S!) as PushedFeature);
      const means = pointer === null ? null : Number(pointer["version"].N);
      const moves = means === null || (options.current && means !== given.version);
      const current = moves ? given.version : means;
      const changed = before === null ? [] : differences(before, given);
      if (before !== null) checkChange(before, given, changed, options.replace);
      if (before !== null && changed.length === 0 && !moves) return { feature: before, outcome: "unchanged", current };
      const id = before?.id ?? Number(counter?.["next_id"].N ?? 0);
      if (before === null && id >= MAX_VIEW_FEATURES) {
        throw new FreshetError(
          "feature_limit",
          `view ${given.view} has ${MAX_VIEW_FEATURES} features and versions, which is the limit of a view`,
          { field: "name", repair: "register it in another view" },
        );
      }
      const feature: PushedFeature = { ...given, id, registeredMs: before?.registeredMs ?? options.nowMs };
      const writes = [
        this.#head(tenant, before === null ? 1 : 0),
        ...(before === null ? [this.#nextId(tenant, given, id)] : []),
        ...(before === null || changed.length > 0 ? [this.#feature(tenant, feature, stored?.["record"] ?? null)] : []),
        ...(moves ? [this.#current(tenant, given, means)] : []),
      ];
      if (await this.#write(writes)) return { feature, outcome: before === null ? "created" : "changed", current };
    }
    const message = `other registrations of the tenant came before this one for ${this.#patienceMs / 1_000} s`;
    throw new FreshetError("catalogue_busy", message, { repair: "register it again" });
  }

  #head(tenant: string, added: number): TransactWriteItem {
    return {
      Update: {
        TableName: this.#table,
        Key: { pk: S(tenant), sk: S("head") },
        UpdateExpression: "ADD revision :one, features :added",
        ...(added === 0 ? {} : { ConditionExpression: "attribute_not_exists(features) OR features < :limit" }),
        ExpressionAttributeValues: {
          ":one": N(1),
          ":added": N(added),
          ...(added === 0 ? {} : { ":limit": N(MAX_FEATURES) }),
        },
      },
    };
  }

  #nextId(tenant: string, given: Registration, id: number): TransactWriteItem {
    return {
      Put: {
        TableName: this.#table,
        Item: { pk: S(tenant), sk: S(viewKey(given)), next_id: N(id + 1) },
        ConditionExpression: id === 0 ? "attribute_not_exists(pk)" : "next_id = :id",
        ExpressionAttributeValues: id === 0 ? undefined : { ":id": N(id) },
      },
    };
  }

  #feature(tenant: string, feature: PushedFeature, before: AttributeValue | null): TransactWriteItem {
    return {
      Put: {
        TableName: this.#table,
        Item: { pk: S(tenant), sk: S(featureKey(feature)), record: S(JSON.stringify(feature)) },
        ConditionExpression: before === null ? "attribute_not_exists(pk)" : "#record = :before",
        ...(before === null
          ? {}
          : { ExpressionAttributeNames: { "#record": "record" }, ExpressionAttributeValues: { ":before": before } }),
      },
    };
  }

  #current(tenant: string, given: Registration, before: number | null): TransactWriteItem {
    return {
      Put: {
        TableName: this.#table,
        Item: { pk: S(tenant), sk: S(currentKey(given)), version: N(given.version) },
        ConditionExpression: before === null ? "attribute_not_exists(pk)" : "version = :before",
        ExpressionAttributeValues: before === null ? undefined : { ":before": N(before) },
      },
    };
  }

  /** @returns false when somebody else was first. @throws FreshetError `feature_limit` */
  async #write(items: TransactWriteItem[]): Promise<boolean> {
    return this.#call("registering a feature", async () => {
      try {
        await this.#dynamodb.send(new TransactWriteItemsCommand({ TransactItems: items }));
        return true;
      } catch (error) {
        if (!(error instanceof TransactionCanceledException)) throw error;
        // The head's condition is the limit alone.
        if (error.CancellationReasons?.[0]?.Code === "ConditionalCheckFailed") {
          throw new FreshetError("feature_limit", `a tenant registers at most ${MAX_FEATURES} features and versions`, {
            repair: "push to features that are registered already",
          });
        }
        return false;
      }
    });
  }

  async #get(tenant: string, sk: string): Promise<Record<string, AttributeValue> | null> {
    const { Item } = await this.#call("reading a registered feature", () =>
      this.#dynamodb.send(
        new GetItemCommand({ TableName: this.#table, Key: { pk: S(tenant), sk: S(sk) }, ConsistentRead: true }),
      ),
    );
    return Item ?? null;
  }

  async #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (cause) {
      if (cause instanceof FreshetError) throw cause;
      throw new InfrastructureError("catalogue_unavailable", `${what} in table ${this.#table} failed`, {
        repair: "look at the table and at the permission on it; nothing was changed by halves",
        cause,
      });
    }
  }
}

function checkChange(
  before: PushedFeature,
  given: Registration,
  changed: readonly (keyof Registration)[],
  replace: boolean,
): void {
  if (changed.length === 0) return;
  const contract = changed.filter((field) => field === "entity" || field === "dtype");
  if (contract.length > 0) {
    const [field] = contract as ("entity" | "dtype")[];
    throw new FreshetError(
      "feature_conflict",
      `${versionedName(given)} is registered with ${field} ${before[field]}, given ${given[field]}`,
      { field, repair: `register it as version ${given.version + 1}: what is stored keeps its meaning` },
    );
  }
  if (given.ttlMs > before.ttlMs) {
    const [from, to] = [before.ttlMs, given.ttlMs].map(formatDuration);
    throw new FreshetError("feature_conflict", `${versionedName(given)} is registered with ttl ${from}, given ${to}`, {
      field: "ttl",
      // Reads and training sets go by today's ttl, and what the store has let go does not come back to it.
      repair: `register it as version ${given.version + 1} and push to that: values older than ${from} may be gone from the store, and training sets would have them`,
    });
  }
  if (replace) return;
  const names = changed.map((field) => (field === "ttlMs" ? "ttl" : field));
  throw new FreshetError("feature_conflict", `${versionedName(given)} is registered with another ${names.join(", ")}`, {
    field: names[0],
    repair: 'send "replace": true to replace it, or what is registered',
  });
}
