/**
 * Tenants are apart on every route: a walk over the OpenAPI document with another tenant's key. What is another's answers as
 * what is not there, in status, body and headers; nothing that another does shows, and nothing of another's changes.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it } from "vitest";
import type { Plan } from "../../../../core/plan.ts";
import { type CallOptions, caller, type Reply } from "./contract-calls.ts";
import { EXAMPLES, type Example, type Things } from "./tenant-examples.ts";

export interface TenantTarget {
  baseUrl(): string;
  readonly plan: Plan;
  /** A tenant that nobody else has, with a key of every scope. */
  newTenant(): Promise<{ tenant: string; key: string }>;
  /** Gives a tenant what cannot be had over HTTP: a registered model of service fraud. */
  equip(tenant: string): Promise<void>;
}

interface Route {
  /** As `POST /v1/score/{service}`, the name of its example. */
  readonly name: string;
  readonly method: string;
  /** As the document has it, `/v1/score/fraud`. */
  readonly path: string;
  /** The stream or service of the path. */
  readonly about: string;
  readonly keyed: boolean;
  readonly example: Example;
}

const VISIBLE_WITHIN_MS = 60_000;
const SETUP_WITHIN_MS = 150_000;
const SUCCESS = new Set([200, 201, 202, 204]);
const METHODS = ["get", "post", "put", "delete", "patch"];
/** What differs between two answers to the same question. */
const MOVING_HEADERS = /^(date|age|content-length|x-request-id|x-amz.*|ratelimit.*|retry-after|connection|keep-alive)$/;
/** Of keys, audit records, erasures and jobs. */
const NEW_ID =
  /("id":"|\bkey )[a-z0-9]{12}\b|\d{13}-[0-9a-f]{12}|[0-9a-z]{8}-[0-9a-f]{12}|[0-9a-z]{8,9}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
/** `served` and `pushed` are what the process has answered and taken, by the walk's own calls among others. */
const MOVING_MEMBERS = new Set([
  "request_id",
  "event_id",
  "latency_ms",
  "progress",
  "expires_ms",
  "served",
  "pushed",
  "salt",
  "hashes",
]);

/** @throws Error for a route of the document without an example, and for an example without a route */
function routesOf(document: any, plan: Plan): Route[] {
  const names = { stream: plan.streams.map(({ name }) => name), service: plan.services.map(({ name }) => name) };
  const routes = Object.entries<any>(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method) => {
      const found = /^(?:\/v1)?\/(?:events\/(?<stream>\w+)|(?:score|rank)\/(?<service>\w+))/.exec(path)?.groups ?? {};
      const kind = (["stream", "service"] as const).find((one) => names[one].includes(found[one]));
      const about = kind === undefined ? "" : found[kind];
      const general = kind === undefined ? path : path.replace(`/${about}`, `/{${kind}}`);
      const name = `${method.toUpperCase()} ${general}`;
      const example = EXAMPLES[name] as Example | undefined;
      if (example === undefined) throw new Error(`no example for ${name}: add a line to tenant-examples.ts`);
      return { name, method: method.toUpperCase(), path, about, keyed: item[method].security !== undefined, example };
    }),
  );
  const stale = Object.keys(EXAMPLES).filter((name) => !routes.some((route) => route.name === name));
  if (stale.length > 0) throw new Error(`the document has no ${stale.join(", ")}: remove it from tenant-examples.ts`);
  return routes;
}

const newThings = (): Things => {
  const id = (kind: string) => `${kind}-${randomUUID()}`;
  const view = `v${randomBytes(6).toString("hex")}`;
  return {
    ...{ card: id("card"), merchant: id("merchant"), user: id("user"), item: id("item") },
    job: `${Date.now().toString(36)}-${randomUUID()}`,
    key: randomBytes(6).toString("hex"),
    feature: `${view}:age`,
    view,
  };
};

export function describeTenants(target: TenantTarget): void {
  const call = caller({
    ...target,
    exactBytes: true,
    keys: () => ({ first: "", second: "", readOnly: "", expired: "" }),
  });
  const ask = ({ method, path, about, example, keyed }: Route, things: Things, key: string): Promise<Reply> => {
    const params = example.path?.(things) ?? {};
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name]));
    const options: CallOptions = { method, key: keyed ? key : null, body: example.body?.(things, about) };
    return call(filled, options);
  };
  const namesThings = ({ example, about }: Route): boolean => {
    const things = newThings();
    const asked = JSON.stringify([example.path?.(things), example.body?.(things, about)]);
    return Object.values(things).some((thing) => asked.includes(thing));
  };
  /** The answer without what moves, things by their kind: what a caller can learn from it. */
  const learned = ({ status, headers, body }: Reply, things: Things, more: readonly string[] = []) => {
    const hide = (text: string): string => {
      let hidden = text;
      for (const [kind, thing] of Object.entries(things)) hidden = hidden.replaceAll(thing, `<${kind}>`);
      for (const one of more) hidden = hidden.replaceAll(one, "<own>");
      return hidden
        .replace(/fk_\w{12}_[\w-]{43}/g, "<secret>")
        .replace(/\?X-Amz-[^"]*/g, "")
        .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z|[\d.]+ (second|minute)s?( ago)?|just now/g, "<moving>")
        .replace(NEW_ID, "$1<new>");
    };
    const still = (name: string, value: any): unknown => {
      if (MOVING_MEMBERS.has(name) || (typeof value === "number" && value > 1e12)) return "<moving>";
      return name.includes("seconds_since") ? { ...value, value: typeof value.value } : value;
    };
    // Feast's errors are JSON in a string.
    const told = typeof body === "string" && body.startsWith("{") ? JSON.parse(body) : body;
    return {
      status,
      headers: [...headers].filter(([name]) => !MOVING_HEADERS.test(name)).map(([name, value]) => [name, hide(value)]),
      body: hide(typeof told === "string" ? told : JSON.stringify(told, still)),
    };
  };

  describe("a tenant", () => {
    let routes: Route[];
    let first: Tenant;
    let owned: Things;
    /** What a tenant that has nothing is answered before anybody has anything, by route. */
    const emptyBefore = new Map<string, unknown>();

    /** Asks what names nothing, as a tenant that nobody has been before. */
    async function askAsNobody(keep: (route: Route, answer: unknown, reply: Reply) => void): Promise<void> {
      const nobody = await target.newTenant();
      const things = newThings();
      for (const route of routes.filter((one) => one.keyed && !namesThings(one))) {
        const reply = await ask(route, things, nobody.key);
        keep(route, learned(reply, things, [nobody.tenant, idOf(nobody.key)]), reply);
      }
    }
    const everything = (things: Things) => [first.tenant, idOf(first.key), ...Object.values(things)];
    const shownOf = async (things: Things, { key }: Tenant) =>
      Object.fromEntries(
        await inTurn(
          routes.filter((route) => route.keyed && !changes(route)),
          async (route) => [
            `${route.method} ${route.path}`,
            route.example.grows ? null : learned(await ask(route, things, key), things),
          ],
        ),
      );

    beforeAll(async () => {
      const { body: document } = await call("/openapi.json", { key: null });
      routes = routesOf(document, target.plan);
      first = await target.newTenant();
      await askAsNobody((route, answer) => emptyBefore.set(`${route.method} ${route.path}`, answer));
      owned = await own(first);
    }, SETUP_WITHIN_MS);

    /** Gives the tenant one of each thing. */
    async function own({ tenant, key }: Tenant): Promise<Things> {
      await target.equip(tenant);
      const things = newThings();
      for (const route of routes.filter(({ example }) => example.owns)) {
        const give = async () => SUCCESS.has((await ask(route, things, key)).status);
        // One process of a host learns from another within seconds what is registered.
        await settled(give, route.name);
      }
      await visible(things, key);
      const rows = [{ as_of_ms: Date.now(), card_id: things.card, amount: 1 }];
      const { body } = await call("/v1/features/historical", { key, body: { service: "fraud", rows } });
      await settled(async () => (await call(`/v1/features/historical/${body.job_id}`, { key })).body.state === "done");
      const made = await call("/v1/keys", { key, body: { scopes: ["read"] } });
      return { ...things, job: body.job_id, key: made.body.id };
    }
    const visible = (things: Things, key: string) =>
      settled(async () => {
        const { body } = await call(`/v1/features/card/${things.card}`, { key });
        return body.features["card_activity:tx_count_1h"].value > 0;
      });

    it("gets the same answer for what is another's as for what is not there, on every route that names something", async () => {
      const before = await shownOf(owned, first);
      const told: unknown[] = [];
      for (const route of routes.filter((one) => one.keyed && namesThings(one))) {
        // A stranger for each, so that no answer follows from what the walk has done before.
        const { key } = await target.newTenant();
        const absent = newThings();
        const nothing = learned(await ask(route, absent, key), absent);
        const others = learned(await ask(route, owned, key), owned);
        expect(codeOf(nothing.body), route.name).not.toMatch(/not_found|method_not_allowed|scope_missing/);
        if (JSON.stringify(nothing) !== JSON.stringify(others)) told.push({ route: route.path, nothing, others });
        // What a stranger has sent under another's names is its own, and the other's stays as it was.
        if (route.path === "/v1/events/transactions") await visible(owned, key);
      }
      expect(told).toEqual([]);
      expect(await shownOf(owned, first)).toEqual(before);
    });

    it("learns nothing from lists, counts and states of what another has", async () => {
      const showing: string[] = [];
      const after = new Map<string, unknown>();
      await askAsNobody((route, answer, reply) => {
        after.set(`${route.method} ${route.path}`, answer);
        const text = JSON.stringify([...reply.headers, reply.body]);
        if (everything(owned).some((one) => text.includes(one))) showing.push(route.path);
      });
      expect(Object.fromEntries(after)).toEqual(Object.fromEntries(emptyBefore));
      expect(showing).toEqual([]);
    });

    it("is named on no page that is open to all, with nothing that it has", async () => {
      for (const route of routes.filter(({ keyed }) => !keyed)) {
        const reply = await ask(route, owned, "");
        const text = JSON.stringify([...reply.headers, reply.body]);
        expect([route.path, everything(owned).filter((one) => text.includes(one))]).toEqual([route.path, []]);
      }
    });

    // Last, since it changes what there is. Without it a walk whose requests name nothing would pass.
    it("is itself told what it has: the walk's requests are good, and its owner's answers differ", async () => {
      for (const route of inOrder(routes).filter(({ keyed }) => keyed)) {
        const absent = newThings();
        const nothing = namesThings(route) ? learned(await ask(route, absent, first.key), absent) : null;
        const reply = await ask(route, owned, first.key);
        const expected = SUCCESS.has(reply.status) ? reply.status : (route.example.status ?? 200);
        const detail = expected < 400 ? undefined : expect.any(String);
        expect([route.name, reply.status, reply.body?.detail]).toEqual([route.name, expected, detail]);
        if (nothing === null || route.example.tells === false) continue;
        expect(learned(reply, owned), route.name).not.toEqual(nothing);
      }
    });
  });
}

const changes = ({ example, method }: Route): boolean => example.changes ?? method !== "GET";
/** Reads, then what changes something, then what takes something away. */
const inOrder = (routes: readonly Route[]): Route[] => {
  const rank = (route: Route) => (route.method === "DELETE" ? 2 : changes(route) ? 1 : 0);
  return [...routes].sort((a, b) => rank(a) - rank(b));
};

interface Tenant {
  readonly tenant: string;
  readonly key: string;
}
/** None of an answer that is no JSON. */
const codeOf = (body: string): string => (body.startsWith("{") ? String(JSON.parse(body).code ?? "") : "");
const idOf = (key: string): string => key.split("_")[1];

async function settled(isSo: () => Promise<boolean>, what = String(isSo)): Promise<void> {
  const deadline = Date.now() + VISIBLE_WITHIN_MS;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`not so after ${VISIBLE_WITHIN_MS} ms: ${what}`);
    await sleep(50);
  }
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}
