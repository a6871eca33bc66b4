/** How a route runs: key and scope first, then the handler; every outcome becomes one answer, counted and timed. */
import type { Hono } from "hono";
import { FreshetError } from "../../core/errors.ts";
import { type Audit, type AuditKind, audited } from "../shared/audited.ts";
import { urlHoldsKey, withoutKeys } from "../shared/hidden-keys.ts";
import { type Admission, FREE_TICKET, type Ticket } from "./admission/admission.ts";
import { LARGE_ROWS, type LargeCall } from "./admission/large-calls.ts";
import type { LoadGate } from "./admission/load-gate.ts";
import type { GatedEnvironment } from "./body.ts";
import { addressOf, presentedKey, requestIdOf } from "./caller.ts";
import { COMPRESSED_FROM, compress } from "./compression.ts";
import { type Authenticator, KEY_PATIENCE_MS, type Principal, type Scope } from "./keys/keys.ts";
import type { Telemetry } from "./observability/telemetry.ts";
import { Problem, problemBody, toProblem, turnedAway } from "./problems.ts";
import { checkParameters } from "./query.ts";
import { isUrlReadable, keyInUrl, unreadableUrl } from "./url.ts";

/** A request as routes see it: Hono's context, or the plain server's own (`direct.ts`). */
export interface RequestContext {
  readonly req: {
    readonly method: string;
    readonly path: string;
    readonly url: string;
    header(name: string): string | undefined;
    param(name: string): string | undefined;
    query(name: string): string | undefined;
    query(): Record<string, string>;
    /** All of a body whose length was declared, where the host reads it itself. */
    whole?(): Promise<Buffer>;
    arrayBuffer?(): Promise<ArrayBuffer>;
    readonly raw?: { readonly body: ReadableStream<Uint8Array> | null };
  };
  /** Each host puts something else there. */
  readonly env: any;
}
export interface Call {
  readonly c: RequestContext;
  /** Only on routes with a scope. */
  readonly principal: Principal;
  readonly requestId: string;
  /** `performance.now()` when the request arrived. */
  readonly startedAt: number;
  /** For its key, in ms, as far as that is a part of what a known key may cost the call: a key's first use here is no part of any budget. */
  readonly waitedMs: number;
  /** What the call costs its tenant. */
  readonly ticket: Ticket;
  /**
   * Before the work on many rows: waits for the call's turn among such. Before `charge`, since who is turned away has had nothing.
   * @returns nothing where it need not wait. The promise rejects with Problem `overloaded`
   */
  readonly turn: (rows: number) => Promise<void> | undefined;
}
export interface Answer {
  readonly status: number;
  readonly body: string;
  /** @default application/json */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** What was changed, for the audit record, where the path does not say. */
  readonly target?: string;
}
export type Handle = (call: Call) => Answer | Promise<Answer>;

/** What goes to the caller. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array<ArrayBuffer>;
}
/** A route with all that is around its handler; words its errors itself. */
export type Run = (c: RequestContext) => Promise<Reply>;
export interface Route {
  readonly method: Method;
  /** With parameters, as `/v1/score/:service`. */
  readonly path: string;
  readonly run: Run;
}

export interface RouterOptions {
  readonly authenticate: Authenticator;
  readonly telemetry: Telemetry;
  /** @default no limits */
  readonly admission?: Admission;
  /** For a host that nothing compresses answers for. @default false */
  readonly compresses?: boolean;
  /** Turns calls with a scope away when there are too many. @default none is turned away */
  readonly gate?: LoadGate;
  /** Told about every error that is ours. Never gets a payload or a key. */
  readonly onError: (error: unknown, context: { requestId: string; route: string; code: string }) => void;
  /** Null for a host without audited routes. */
  readonly audit: Audit | null;
  /** Told of every route, in order. */
  readonly onRoute?: (route: Route) => void;
}

export type Method = "GET" | "POST" | "PUT" | "DELETE";

export interface RouteOptions {
  /**
   * Who takes the tenant's tokens. A handler that says `itself` takes them by its ticket as soon as it knows how many, and
   * awaits that before it changes, tells or logs anything; the router awaits it before it answers. What fails before costs one.
   * @default one token: beside the handler for GET of features and scores, before it for everything else
   */
  readonly charges?: "itself";
  /** Of the query; what is not among them is refused. @default none of routes with a scope, any of public ones */
  readonly parameters?: readonly string[] | "any";
  /** How errors are worded, where a route speaks another system's contract. @default problem documents */
  readonly errors?: (problem: Problem, requestId: string) => Answer;
  /** Name of the action in the audit log, as `keys.create`. Required of every route of administrators, and of every change. */
  readonly audit?: string;
  /** @default `read` for GET, else `change` */
  readonly auditKind?: AuditKind;
}

export type Register = (
  method: Method,
  path: string,
  scope: Scope | null,
  handle: Handle,
  options?: RouteOptions,
) => void;

const NO_TURNS: Call["turn"] = () => undefined;
const PUBLIC: Principal = { keyId: "", tenant: "", scopes: new Set() };

/** Registers routes on `app`, named by their path in logs and metrics. */
export function createRouter(app: Hono, options: RouterOptions): Register {
  const { authenticate, admission, gate, telemetry, onError, audit, onRoute, compresses = false } = options;
  const routes: { method: Method; path: string; pattern: RegExp }[] = [];

  function fail(
    error: unknown,
    route: string,
    requestId: string,
    startedAt: number,
    errors = asDocument,
    ticket = FREE_TICKET,
  ): Reply {
    const problem = toProblem(error);
    // A line for each call that is turned away would be the next thing that is too much.
    if (problem.status >= 500 && problem.code !== "overloaded")
      onError(problem.cause ?? problem, { requestId, route, code: problem.code });
    const { status, body, contentType, headers } = errors(problem, requestId);
    telemetry.request(route, status, performance.now() - startedAt);
    // An error may quote what was sent; a key is not to be shown, not even to its owner's screen and logs.
    const all = { ...ticket.headers(), ...headers };
    return replyOf(status, withoutKeys(body), contentType ?? "application/json", requestId, all);
  }

  app.notFound((c) => {
    if (urlHoldsKey(c.req.url)) return respond(fail(keyInUrl(), "none", requestIdOf(c), performance.now()));
    const path = c.req.path;
    const fitting = routes.filter(({ pattern }) => pattern.test(path));
    // A path of its own is not another's parameter: `/v1/features/push` is no feature's name.
    const own = fitting.filter((route) => route.path === path);
    const here = own.length > 0 ? own : fitting;
    const allowed = [...new Set(here.map(({ method }) => method))];
    const error =
      allowed.length === 0
        ? new Problem("not_found", "no route matches this path", { repair: "see /docs for all calls" })
        : new Problem("method_not_allowed", `this path takes ${allowed.join(", ")}, given ${c.req.method}`, {
            repair: `use ${allowed[0]}`,
            headers: { allow: allowed.join(", ") },
          });
    return respond(fail(error, here[0]?.path ?? "none", requestIdOf(c), performance.now()));
  });
  app.onError((error, c) => respond(fail(error, "none", requestIdOf(c), performance.now())));

  return (method, path, scope, work, options = {}) => {
    const { charges, errors, audit: action, auditKind, parameters = scope === null ? "any" : [] } = options;
    const handle: Handle = (call) => {
      if (parameters !== "any") checkParameters(call.c, parameters, `${method} ${path}`);
      return work(call);
    };
    const isRead = method === "GET" && (scope === "read" || scope === "score");
    const when = charges ?? (isRead ? "beside" : "before");
    const kind = auditKind ?? (method === "GET" ? "read" : "change");
    if (scope === "admin" && action === undefined) throw unaudited(path);
    const auditing = action === undefined ? null : { action, kind, ...required(audit, path) };
    routes.push({ method, path, pattern: new RegExp(`^${path.replace(/:[a-z]+/g, "[^/]+")}$`) });
    const run: Run = async (c) => {
      const startedAt = performance.now();
      const requestId = requestIdOf(c);
      let ticket = FREE_TICKET;
      let isIn = false;
      let tenant: string | undefined;
      let large = null as LargeCall | null;
      let waitedMs = 0;
      try {
        if (urlHoldsKey(c.req.url)) throw keyInUrl();
        let principal = PUBLIC;
        if (scope !== null) {
          if (gate !== undefined) {
            isIn = gate.enter();
            if (!isIn) throw overloaded();
            if (c.env !== undefined) (c.env as Partial<GatedEnvironment>).gate = gate;
          }
          const authenticated = authenticate(presentedKey(c), () => addressOf(c));
          // Known keys are checked without leaving the turn.
          if (!(authenticated instanceof Promise)) principal = authenticated;
          else {
            principal = await authenticated;
            waitedMs = Math.min(performance.now() - startedAt, KEY_PATIENCE_MS);
          }
          if (gate !== undefined) {
            isIn = gate.enterAs(principal.tenant, scope);
            if (!isIn) throw overloaded();
            tenant = principal.tenant;
          }
          if (!isUrlReadable(c)) throw unreadableUrl();
          if (admission !== undefined) ticket = admission.open(principal.tenant, scope);
          if (!principal.scopes.has(scope)) {
            await ticket.charge(1);
            await deny(scope, principal, auditing, c, requestId);
          }
        }
        if (when === "before") await ticket.charge(1);
        else if (when === "beside") ticket.charge(1);
        else ticket.check();
        const turn = gate === undefined ? NO_TURNS : (rows: number) => (rows < LARGE_ROWS ? undefined : takeTurn(rows));
        const takeTurn = async (rows: number): Promise<void> => {
          large = await gate!.large.enter(rows);
          if (large !== null) return;
          // It costs nothing to be turned away.
          ticket = FREE_TICKET;
          throw overloaded();
        };
        const call = { c, principal, requestId, startedAt, waitedMs, ticket, turn };
        const { status, body, contentType, headers } = await (auditing === null
          ? handle(call)
          : audited(
              auditing,
              auditing.kind,
              entryOf(auditing, call),
              () => handle(call),
              ({ target }) => target,
            ));
        await ticket.settled();
        const all = { ...headers, ...ticket.headers() };
        const type = contentType ?? "application/json";
        if (!compresses || body.length < COMPRESSED_FROM) {
          telemetry.request(path, status, performance.now() - startedAt);
          return replyOf(status, body, type, requestId, all);
        }
        const compressed = await compress(c.req.header("accept-encoding"), body);
        telemetry.request(path, status, performance.now() - startedAt);
        const vary = { vary: "accept-encoding", ...(compressed && { "content-encoding": compressed.encoding }) };
        return replyOf(status, compressed?.body ?? body, type, requestId, { ...all, ...vary });
      } catch (error) {
        return fail(await weigh(error, ticket), path, requestId, startedAt, errors, ticket);
      } finally {
        if (large !== null) gate!.endLarge(large);
        if (isIn) gate!.leave(tenant, scope ?? "");
      }
    };
    app.on(method, path, async (c) => respond(await run(c)));
    onRoute?.({ method, path, run });
  };
}

const overloaded = () =>
  turnedAway("overloaded", "this host has more calls under way than it can answer in time", {
    repair: "send it again with backoff and jitter; if it stays, more hosts are needed",
    headers: { "retry-after": "1" },
  });

/** What a caller is told of two errors: a refusal by its limits comes before whatever else is wrong with the call. */
async function weigh(error: unknown, ticket: Ticket): Promise<unknown> {
  try {
    await ticket.settled();
    return error;
  } catch (refusal) {
    return refusal;
  }
}

const asDocument = (problem: Problem, requestId: string): Answer => ({
  status: problem.status,
  body: problemBody(problem, requestId),
  contentType: "application/problem+json",
  headers: problem.headers,
});

interface Auditing extends Audit {
  readonly action: string;
  readonly kind: AuditKind;
}

const unaudited = (path: string) =>
  new FreshetError("audit_missing", `${path} is for administrators and names no action of the audit log`, {
    repair: 'register it with { audit: "things.change" }',
  });

function required(audit: Audit | null, path: string): Audit {
  if (audit !== null) return audit;
  throw new FreshetError("audit_missing", `${path} is audited and this host has no audit log`, {
    repair: "give createApp an audit log",
  });
}

/** The path as it was sent, without the query. */
const entryOf = ({ action }: Auditing, { c, principal, requestId }: Pick<Call, "c" | "principal" | "requestId">) => ({
  tenant: principal.tenant,
  who: `key ${principal.keyId}`,
  action,
  target: c.req.path,
  requestId,
});

/** An attempt without the scope is recorded where the call itself would be. @throws Problem `scope_missing` always */
async function deny(
  scope: Scope,
  principal: Principal,
  auditing: Auditing | null,
  c: RequestContext,
  requestId: string,
): Promise<never> {
  const refuse = (): never => {
    throw missingScope(scope, principal);
  };
  if (auditing === null) return refuse();
  return audited(auditing, "read", entryOf(auditing, { c, principal, requestId }), refuse);
}

const replyOf = (
  status: number,
  body: Reply["body"],
  type: string,
  requestId: string,
  more: Readonly<Record<string, string>> | undefined,
): Reply => ({ status, headers: { "content-type": type, "x-request-id": requestId, ...more }, body });

/**
 * Not `c.body()`: it copies headers into a Headers object, where the plain server's Response takes a plain one straight to
 * the socket (about a tenth of the CPU of a small answer).
 */
const respond = ({ status, headers, body }: Reply): Response => new Response(body, { status, headers });

const missingScope = (scope: Scope, principal: Principal) =>
  new Problem("scope_missing", `this call needs the scope ${scope}; the key has ${[...principal.scopes].join(", ")}`, {
    field: "x-api-key",
    repair: `use a key with the scope ${scope}: freshet keys create --scopes ${scope}`,
  });
