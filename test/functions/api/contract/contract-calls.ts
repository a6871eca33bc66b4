/** How the contract suite talks to a host: HTTP and nothing else. */
import { randomUUID } from "node:crypto";
import type { z } from "zod";
import type { Plan } from "../../../../core/plan.ts";

export interface ContractTarget {
  /** Without a slash at its end. Called inside of tests, when the host is up. */
  baseUrl(): string;
  /** Keys with every scope but admin of two tenants, one of the first tenant that may only read, and, for hosts that register features, admins of both. */
  keys(): {
    first: string;
    second: string;
    readOnly: string;
    expired: string;
    firstAdmin?: string;
    secondAdmin?: string;
  };
  readonly plan: Plan;
  /** False where something before the host reads bodies as text: API Gateway replaces bytes that are not UTF-8. */
  readonly exactBytes: boolean;
}

export interface Reply {
  readonly status: number;
  readonly type: string | null;
  readonly headers: Headers;
  readonly body: any;
}

export interface CallOptions {
  /** @default POST when there is a body, else GET */
  readonly method?: string;
  /** An object is sent as JSON; text and bytes as they are. */
  readonly body?: unknown;
  readonly key?: string | null;
  readonly headers?: Record<string, string>;
}

/** One transaction as an application would send it: `{ ...transaction(), amount: 1 }`. */
export const transaction = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  transaction_id: randomUUID(),
  event_time: Date.now(),
  card_id: `c-${randomUUID()}`,
  user_id: null,
  merchant_id: `m-${randomUUID()}`,
  device_id: null,
  amount: 12.5,
  currency: "EUR",
  country: "SE",
  merchant_category: "grocery",
  channel: "online",
  status: "approved",
  ...more,
});

export function caller(target: ContractTarget) {
  return async function call(path: string, options: CallOptions = {}): Promise<Reply> {
    const { body, key = target.keys().first } = options;
    const raw = typeof body === "string" || body instanceof Uint8Array;
    const response = await fetch(target.baseUrl() + path, {
      method: options.method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        ...(key === null ? {} : { "x-api-key": key }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...options.headers,
      },
      body: body === undefined ? undefined : raw ? (body as string) : JSON.stringify(body),
    });
    const text = await response.text();
    const type = response.headers.get("content-type");
    const json = type?.includes("json") ? JSON.parse(text) : text;
    return { status: response.status, type, headers: response.headers, body: json };
  };
}

/** Calls a test's own server with its only key; both come about before the first call. */
export const callerOf = (plan: Plan, server: () => { readonly url: string }, key: () => string) =>
  caller({
    baseUrl: () => server().url,
    keys: () => ({ first: key(), second: "", readOnly: "", expired: "" }),
    plan,
    exactBytes: true,
  });

/** Parses strictly: a member that the contract does not name fails. */
export function conforming<S extends z.ZodType>(schema: S, { body }: Reply): z.infer<S> {
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw new Error(`${parsed.error.message}\nin ${JSON.stringify(body).slice(0, 2_000)}`);
  return parsed.data;
}

/** One request that a caller can send, and what it is told. */
export interface BadInput {
  readonly name: string;
  readonly path: string;
  readonly options: CallOptions | (() => CallOptions);
  readonly status: number;
  readonly code: string;
  readonly field?: string;
  /** Part of `detail`. */
  readonly detail: string;
  /** Part of `repair`. */
  readonly repair: string;
}

/** A request that `POST /v1/score/fraud` takes. */
export const scorable = { card_id: "c1", merchant_id: "m1", amount: 10, country: "SE" };
export const without = (record: Record<string, unknown>, ...names: string[]) =>
  Object.fromEntries(Object.entries(record).filter(([name]) => !names.includes(name)));
