/** What is kept of a tenant: limits of its own, in the table of keys, under an id that no key can have. */
import {
  DeleteItemCommand,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  ScanCommand,
} from "@aws-sdk/client-dynamodb";
import { FreshetError } from "../../../core/errors.ts";
import { checkTenant } from "../../../core/event.ts";
import type { Limit } from "../../../core/token-bucket.ts";
import { SCOPES, type Scope } from "../keys/keys.ts";

/** A route is of the class of its scope: one bucket for each tenant and class. */
export type RouteClass = Scope;
export type Limits = Readonly<Partial<Record<RouteClass, Limit>>>;

export interface TenantRecord {
  readonly name: string;
  /** Instead of the stage's; classes that are not named have those. */
  readonly limits: Limits;
}

export interface TenantStore {
  get(name: string): Promise<TenantRecord | null>;
  /** A record without limits is removed. */
  put(record: TenantRecord): Promise<void>;
  /** Those with a record, by name. */
  list(): Promise<TenantRecord[]>;
}

/** Token buckets count in doubles of microseconds; more than a token in each says nothing. */
const MAX_PER_SECOND = 1_000_000;

/** @throws FreshetError `limit_invalid` */
export function checkLimit(given: unknown, field: string): Limit {
  const { perSecond, burst, perDay = null } = (given ?? {}) as Record<string, unknown>;
  const fail = (rule: string, value: unknown): never => {
    throw new FreshetError("limit_invalid", `${field}: ${rule}, given ${JSON.stringify(value) ?? "nothing"}`, {
      field,
      repair: "use numbers like perSecond 100, burst 200, perDay 1000000 (or null)",
    });
  };
  if (typeof perSecond !== "number" || !(perSecond > 0 && perSecond <= MAX_PER_SECOND)) {
    return fail(`perSecond is above 0 and at most ${MAX_PER_SECOND}`, perSecond);
  }
  if (!Number.isSafeInteger(burst) || (burst as number) < 1) return fail("burst is a whole number from 1", burst);
  if (perDay !== null && (!Number.isSafeInteger(perDay) || (perDay as number) < 1)) {
    return fail("perDay is a whole number from 1, or null", perDay);
  }
  return { perSecond, burst: burst as number, perDay: perDay as number | null };
}

/** @throws FreshetError `limit_invalid` */
export function checkLimits(given: unknown): Limits {
  const entries = Object.entries((given ?? {}) as Record<string, unknown>);
  const unknown = entries.find(([name]) => !(SCOPES as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new FreshetError("limit_invalid", `no route class is named ${unknown[0]}`, {
      field: unknown[0],
      repair: `use ${SCOPES.join(", ")}`,
    });
  }
  return Object.fromEntries(entries.map(([name, limit]) => [name, checkLimit(limit, name)]));
}

const PREFIX = "tenant:";

/** Beside the keys: partition key `id`. */
export function createTenantStore(client: Pick<DynamoDBClient, "send">, table: string): TenantStore {
  const toRecord = (item: Record<string, any>): TenantRecord => ({
    name: item["id"].S.slice(PREFIX.length),
    limits: checkLimits(JSON.parse(item["limits"].S)),
  });
  return {
    async get(name) {
      const Key = { id: { S: PREFIX + name } };
      const { Item } = await client.send(new GetItemCommand({ TableName: table, Key }));
      return Item === undefined ? null : toRecord(Item);
    },
    async put({ name, limits }) {
      checkTenant(name);
      const id = { S: PREFIX + name };
      if (Object.keys(limits).length === 0) {
        await client.send(new DeleteItemCommand({ TableName: table, Key: { id } }));
        return;
      }
      const Item = { id, limits: { S: JSON.stringify(checkLimits(limits)) } };
      await client.send(new PutItemCommand({ TableName: table, Item }));
    },
    async list() {
      const records: TenantRecord[] = [];
      let start: Record<string, any> | undefined;
      do {
        const page = await client.send(
          new ScanCommand({
            TableName: table,
            ExclusiveStartKey: start,
            FilterExpression: "begins_with(id, :prefix)",
            ExpressionAttributeValues: { ":prefix": { S: PREFIX } },
          }),
        );
        records.push(...(page.Items ?? []).map(toRecord));
        start = page.LastEvaluatedKey;
      } while (start !== undefined);
      return records.sort((a, b) => (a.name < b.name ? -1 : 1));
    },
  };
}
