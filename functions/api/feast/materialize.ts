/**
 * `POST /materialize` and `/materialize-incremental` by Feast's contract: batch views are run for the caller's tenant. A function does it, which
 * the request's table wakes; a call that does not ask for `async` waits for it as long as API Gateway lets it.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  idAt,
  isEnded,
  type MaterializeRequest,
  type MaterializeRequests,
} from "../../../adapters/jobs/materialize-requests.ts";
import { typeName } from "../../../core/errors.ts";
import type { BatchView, Plan } from "../../../core/plan.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { type JsonObject, readObjectOfAnyType } from "../body.ts";
import { MAX_QUERY_BYTES } from "../limits.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { readNames } from "./name-lists.ts";
import { parseTime } from "./times.ts";

export interface MaterializePorts {
  readonly requests: Pick<MaterializeRequests, "put" | "get" | "open">;
  /** How long a call waits for the end. @default 20 s: API Gateway gives a call up after 29 */
  readonly waitMs?: number;
}

const WAIT_MS = 20_000;
const POLL_MS = 250;
/** Of one view in one request: what a function may do within its time. */
const MAX_RUNS = 400;
/** Requests of one tenant that wait or run: those of all tenants are done by the same few functions. */
const MAX_OPEN = 20;
/** Clocks of callers differ; what lies further ahead has not happened. */
const AHEAD_MS = 60_000;

export function createFeastMaterialize(deps: {
  readonly plan: Plan;
  readonly ports: MaterializePorts;
  readonly clock: () => number;
}): { range: Handle; incremental: Handle } {
  const { plan, clock } = deps;
  const { requests, waitMs = WAIT_MS } = deps.ports;

  async function start(call: Call, views: readonly BatchView[], fromMs: number | null, toMs: number): Promise<Answer> {
    const { tenant } = call.principal;
    const names = views.map(({ name }) => name);
    const nowMs = clock();
    const later = flag(call, "async");
    const open = await requests.open(tenant, nowMs);
    if (open.length >= MAX_OPEN) {
      throw new Problem(
        "too_many_jobs",
        `${open.length} requests of the tenant wait or run, the limit is ${MAX_OPEN}`,
        {
          repair: "wait until one of them is done, or ask for a longer range at once",
          headers: { "retry-after": "30" },
        },
      );
    }
    if (later && !flag(call, "force")) {
      const busy = names.filter((name) => open.some((one) => one.views.includes(name)));
      if (busy.length > 0) {
        throw new Problem("materialization_running", `${busy.join(", ")} is being materialized already`, {
          field: "feature_views",
          repair: "wait for it, or send ?force=true: runs beside each other give the same values",
          extra: { feature_views: busy },
        });
      }
    }
    const id = `${idAt(nowMs)}-${randomUUID()}`;
    const times = { createdMs: nowMs, updatedMs: nowMs };
    await requests.put({ tenant, id, views: names, fromMs, toMs, state: "queued", ...times, error: null });
    const ended = later ? null : await end(tenant, id, nowMs + waitMs);
    if (ended === null) {
      return { status: 202, body: JSON.stringify({ status: "accepted", feature_views: names }), target: id };
    }
    if (ended.state === "done") return { status: 200, body: "null", target: id };
    throw new Problem("materialization_failed", `${ended.error?.code}: ${ended.error?.detail}`, {
      repair: "what was done stays; the log of the function materialize says more",
    });
  }

  /** @returns null when it is not over by then */
  async function end(tenant: string, id: string, untilMs: number): Promise<MaterializeRequest | null> {
    while (clock() < untilMs) {
      const request = await requests.get(tenant, id);
      if (request !== null && isEnded(request.state)) return request;
      await sleep(POLL_MS);
    }
    return null;
  }

  return {
    async range(call) {
      const body = await readObjectOfAnyType(call.c, MAX_QUERY_BYTES);
      const views = viewsOf(plan, body);
      const nowMs = clock();
      // Without times of events the newest values are asked for: those of the last whole period.
      if (isWithoutTimes(body)) {
        const longest = Math.max(...views.map(({ everyMs }) => everyMs));
        const toMs = floorTo(nowMs, longest);
        return start(call, views, toMs - longest, toMs);
      }
      const fromMs = parseTime(body["start_ts"], "start_ts");
      const toMs = endOf(body, nowMs);
      if (fromMs >= toMs) {
        throw new Problem("selection_invalid", "the range from start_ts to end_ts is empty", {
          field: "end_ts",
          repair: "give an end_ts later than start_ts, and not in the future",
        });
      }
      checkRuns(views, fromMs, toMs);
      return start(call, views, fromMs, toMs);
    },
    async incremental(call) {
      const body = await readObjectOfAnyType(call.c, MAX_QUERY_BYTES);
      return start(call, viewsOf(plan, body), null, endOf(body, clock()));
    },
  };
}

const flag = ({ c }: Call, name: string): boolean => /^(true|1|yes|on)$/i.test(c.req.query(name) ?? "");

function viewsOf({ batchViews, views }: Plan, body: JsonObject): readonly BatchView[] {
  // As Feast does unless its registry keeps versions of views.
  if (body["version"] !== undefined && body["version"] !== null) {
    throw new Problem("selection_invalid", "views have no versions that could be materialized", {
      field: "version",
      repair: "leave it out: a view's values are computed by its definition as it is",
    });
  }
  const given = body["feature_views"];
  if (given === undefined || given === null) {
    if (batchViews.length > 0) return batchViews;
    throw new Problem("selection_invalid", "the plan has no batch feature view", {
      field: "feature_views",
      repair: "views of events need no materialization: they are up to date by themselves",
    });
  }
  const repair = "leave it out for all batch feature views";
  const names = readNames(given, "feature_views", repair);
  if (names.length === 0) {
    throw new Problem("selection_invalid", "feature_views names no view", { field: "feature_views", repair });
  }
  return [...new Set(names)].map((name, i) => {
    const found = batchViews.find((view) => view.name === name);
    if (found !== undefined) return found;
    const field = `feature_views[${i}]`;
    if (views.some((view) => view.name === name)) {
      throw new Problem("selection_invalid", `view ${name} is of events: it is up to date by itself`, {
        field,
        repair: "leave it out; freshet backfill brings in what is older than the view",
      });
    }
    throw new Problem("view_unknown", `no batch feature view is named "${shorten(name)}"`, {
      field,
      repair: suggest(
        name,
        batchViews.map((view) => view.name),
      ),
    });
  });
}

/** What is not looked at has its type all the same, as in Feast. @throws Problem `wrong_type` */
function isWithoutTimes(body: JsonObject): boolean {
  const { disable_event_timestamp: given = false } = body;
  const field = ["start_ts", "end_ts"].find((name) => body[name] != null && typeof body[name] !== "string");
  if (typeof given === "boolean" && field === undefined) return given;
  const [name, what] = field === undefined ? ["disable_event_timestamp", "true or false"] : [field, "a time"];
  throw new Problem("wrong_type", `${name} is ${what}, given ${typeName(body[name])}`, {
    field: name,
    repair: "leave it out, or send it as /docs shows it",
  });
}

function endOf(body: JsonObject, nowMs: number): number {
  const toMs = parseTime(body["end_ts"], "end_ts");
  if (toMs <= nowMs + AHEAD_MS) return Math.min(toMs, nowMs);
  throw new Problem("selection_invalid", "end_ts lies in the future", {
    field: "end_ts",
    repair: "send the present, with its zone; without one it is UTC",
  });
}

function checkRuns(views: readonly BatchView[], fromMs: number, toMs: number): void {
  for (const { name, everyMs } of views) {
    const runs = Math.ceil((toMs - fromMs) / everyMs);
    if (runs <= MAX_RUNS) continue;
    throw new Problem("selection_invalid", `the range has ${runs} runs of ${name}, the limit is ${MAX_RUNS}`, {
      field: "start_ts",
      repair: "ask for it in several requests, or run freshet materialize",
    });
  }
}
