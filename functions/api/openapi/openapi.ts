/** The OpenAPI 3.1 document, made from the plan on first request: nothing of it is on the path of other calls. */
import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { adminRoutes } from "../administration/admin-openapi.ts";
import { quarantineRoutes } from "../administration/quarantine-openapi.ts";
import {
  catalogueAnswer,
  catalogueQuery,
  contextAnswer,
  contextQuery,
  featureAnswer,
} from "../catalogue/catalogue-schemas.ts";
import { LABELS } from "../events/events.ts";
import { feastRoutes } from "../feast/openapi.ts";
import { historicalRequest, jobAnswer } from "../historical/historical-schemas.ts";
import { PROBLEMS } from "../problems.ts";
import { pushAnswer, pushRequest, registeredAnswer, registerRequest } from "../registered/pushed-schemas.ts";
import { rankAnswer, rankRequest } from "../scoring/rank-schemas.ts";
import { familiarRoutes } from "./familiar-openapi.ts";
import { limitHeaders } from "./limit-headers.ts";
import * as schemas from "./schemas.ts";

const json = (schema: z.ZodType, description: string) => ({ description, content: { "application/json": { schema } } });
const problem = (description: string) => ({
  description,
  content: { "application/problem+json": { schema: schemas.problem } },
});
/** What any call with a key can answer besides its own result. */
const FAILURES = {
  400: problem("The request breaks a rule; `code`, `field` and `repair` say which and what to do."),
  401: problem("The API key is missing, unknown or expired."),
  403: problem("The API key lacks the scope."),
  404: problem("The stream, service, entity or feature does not exist."),
  413: problem("The body is too large."),
  415: problem("The content type is not supported."),
  500: problem("A fault of ours; the log has the `request_id`."),
  503: problem("A dependency does not answer; try again."),
};
/** Of every call with a key. */
const LIMITED = {
  ...problem("The tenant is at its limit; `Retry-After` says how many seconds to wait."),
  headers: limitHeaders,
};
const body = (schema: z.ZodType) => ({
  body: { required: true, content: { "application/json": { schema } } },
});
const AVRO = z.string().openapi({ format: "binary" });

export function createOpenApiDocument(plan: Plan, version: string): object {
  const app = new OpenAPIHono();
  const registry = app.openAPIRegistry;
  registry.registerComponent("securitySchemes", "apiKey", { type: "apiKey", in: "header", name: "x-api-key" });
  const requests = schemas.requestSchemas(plan);
  const add = (route: Parameters<typeof createRoute>[0]) =>
    registry.registerPath(
      createRoute(route.security ? { ...route, responses: { 429: LIMITED, ...route.responses } } : route),
    );
  const keyed = (scope: string) => ({ security: [{ apiKey: [] }], "x-scope": scope });

  const sendable = plan.streams.flatMap((stream) => [
    { stream, path: `/v1/events/${stream.name}`, summary: `Send events to ${stream.name}` },
    ...(stream.name === LABELS
      ? [{ stream, path: "/v1/labels", summary: "Send outcomes: the same as /v1/events/labels" }]
      : []),
  ]);
  for (const { stream, path, summary } of sendable) {
    add({
      ...{ method: "post", path, tags: ["Events"], summary },
      description:
        `One event, an array, or {"events": [...]}, up to 500. Idempotent by \`${stream.eventId}\`: an event that is sent ` +
        "again counts once. Avro bodies hold one record in single-object encoding or a schema registry's framing, or many in a KPL aggregate.",
      ...keyed("write"),
      request: {
        body: {
          required: true,
          content: {
            "application/json": { schema: requests.events[stream.name] },
            "application/vnd.freshet.avro": { schema: AVRO },
          },
        },
      },
      responses: {
        202: json(schemas.eventsAnswer, "Every event was queued."),
        207: json(schemas.eventsAnswer, "Some events were not queued; `results` says which and why."),
        ...FAILURES,
        429: { ...LIMITED, description: "The tenant or the stream is at its limit; nothing was queued." },
      },
    });
  }
  add({
    method: "post",
    path: "/v1/features/online",
    tags: ["Features"],
    summary: "Read features of one set of entities",
    ...keyed("read"),
    request: body(requests.online),
    responses: { 200: json(schemas.onlineAnswer, "Values by feature name."), ...FAILURES },
  });
  add({
    method: "post",
    path: "/v1/features/batch",
    tags: ["Features"],
    summary: "Read the same features for up to 100 rows",
    ...keyed("read"),
    request: body(requests.batch),
    responses: { 200: json(schemas.batchAnswer, "One row of arrays for each row given."), ...FAILURES },
  });
  add({
    method: "post",
    path: "/v1/features/historical",
    tags: ["Features"],
    summary: "Start a point-in-time join",
    description:
      "Features as they were at each labelled event of the service, or at rows of your own, as Parquet with a manifest. " +
      "The answer names a job; its files can be fetched when it is done.",
    ...keyed("read"),
    request: body(historicalRequest),
    responses: { 202: json(jobAnswer, "The job was taken."), ...FAILURES },
  });
  add({
    method: "get",
    path: "/v1/features/historical/{job}",
    tags: ["Features"],
    summary: "How far a point-in-time join is, and where its files are",
    ...keyed("read"),
    request: { params: z.object({ job: z.string() }) },
    responses: { 200: json(jobAnswer, "State, progress, and addresses that need no key for an hour."), ...FAILURES },
  });
  add({
    method: "delete",
    path: "/v1/features/historical/{job}",
    tags: ["Features"],
    summary: "Cancel a point-in-time join",
    description:
      "Ends a job that waits or runs, and what it has begun; nothing of it is kept. To cancel it again changes nothing.",
    ...keyed("read"),
    request: { params: z.object({ job: z.string() }) },
    responses: {
      200: json(jobAnswer, "It is cancelled."),
      ...FAILURES,
      409: problem("The job is done, or has failed."),
    },
  });
  add({
    method: "post",
    path: "/v1/features/register",
    tags: ["Features"],
    summary: "Register a feature whose values you push",
    description:
      "Idempotent: what is registered with the same is answered as it is. Entity and type are for ever those of a version. " +
      "The host that answers knows it at once, others within seconds.",
    ...keyed("admin"),
    request: body(registerRequest(plan)),
    responses: {
      200: json(registeredAnswer, "It is registered already, or was changed."),
      201: json(registeredAnswer, "It was registered."),
      ...FAILURES,
      409: problem("It is registered otherwise, its view is declared, or there are too many."),
    },
  });
  add({
    method: "post",
    path: "/v1/features/push",
    tags: ["Features"],
    summary: "Push values of registered features",
    description:
      "Of each feature the newest value wins, by event time, whatever the order of pushes; to push again changes nothing. " +
      "What is accepted is read from then on, and is in the archive.",
    ...keyed("write"),
    request: body(pushRequest),
    responses: {
      200: json(pushAnswer, "Every row was accepted."),
      207: json(pushAnswer, "Some rows were refused; `results` says which and why."),
      ...FAILURES,
    },
  });
  add({
    method: "get",
    path: "/v1/features",
    tags: ["Features"],
    summary: "The catalogue: declared features and those that the tenant has registered",
    ...keyed("read"),
    request: { query: catalogueQuery },
    responses: { 200: json(catalogueAnswer, "A page of it, by name."), ...FAILURES },
  });
  add({
    method: "get",
    path: "/v1/features/{name}",
    tags: ["Features"],
    summary: "What is known of a feature: how it comes about, who uses it, what was served of it",
    ...keyed("read"),
    request: { params: z.object({ name: z.string() }) },
    responses: { 200: json(featureAnswer, "The feature."), ...FAILURES },
  });
  add({
    method: "get",
    path: "/v1/context/{entity}/{id}",
    tags: ["Features"],
    summary: "What is known of an entity, as text for a language model's prompt",
    description:
      "Whole lines within a budget of tokens, the most informative first, with descriptions, units and ages in words; " +
      "the last line says how much was left out. Texts are quoted: no value can pass for another line.",
    ...keyed("read"),
    request: {
      params: z.object({ entity: z.enum(namesOf(plan.entities)), id: z.string() }),
      query: contextQuery,
    },
    responses: {
      200: {
        description: "The context.",
        content: {
          "text/plain": { schema: z.string() },
          "text/markdown": { schema: z.string() },
          "application/json": { schema: contextAnswer },
        },
      },
      ...FAILURES,
    },
  });
  add({
    method: "get",
    path: "/v1/features/{entity}/{id}",
    tags: ["Features"],
    summary: "Read everything known of one entity",
    ...keyed("read"),
    request: { params: z.object({ entity: z.enum(namesOf(plan.entities)), id: z.string() }) },
    responses: { 200: json(schemas.entityAnswer, "Values by feature name."), ...FAILURES },
  });
  const words = { json, problem, keyed, body, failures: FAILURES };
  for (const route of familiarRoutes(plan, words)) add(route as Parameters<typeof createRoute>[0]);
  for (const service of plan.services) {
    add({
      method: "post",
      path: `/v1/score/${service.name}`,
      tags: ["Scores"],
      summary: `Score with ${service.name}`,
      description:
        "A flat body: join keys and request fields; other fields are ignored. Score before you send the event. " +
        "Missing features never fail the call: see `features_missing` and `degraded`.",
      ...keyed("score"),
      request: body(requests.score[service.name]),
      responses: {
        200: json(schemas.scoreAnswer, "The score."),
        ...FAILURES,
        409: problem("The service has neither model nor fallback, or not the variant asked for."),
      },
    });
    add({
      method: "post",
      path: `/v1/score/${service.name}/batch`,
      tags: ["Scores"],
      summary: `Score up to 100 rows with ${service.name}`,
      description: "Each row as the body of a single score, without `explain`. One read, one run of each model.",
      ...keyed("score"),
      request: body(requests.scoreBatch[service.name]),
      responses: {
        200: json(schemas.batchScoreAnswer, "A score for each row."),
        ...FAILURES,
        409: problem("The service has neither model nor fallback, or not the variant asked for."),
      },
    });
  }
  for (const service of plan.services.filter(({ candidate }) => candidate !== undefined)) {
    add({
      method: "post",
      path: `/v1/rank/${service.name}`,
      tags: ["Scores"],
      summary: `Rank candidates with ${service.name}`,
      description:
        "Up to 500 candidates in the order of their scores: one read, one variant of the model for all. Candidates that " +
        "nothing is known of are ranked too. What is answered is logged, and so counts in experiments.",
      ...keyed("score"),
      request: body(rankRequest(plan, service)),
      responses: {
        200: json(rankAnswer, "The best candidates."),
        ...FAILURES,
        409: problem("The service does not rank, has neither model nor fallback, or not the variant asked for."),
      },
    });
  }
  add({
    method: "get",
    path: "/v1/models",
    tags: ["Models"],
    summary: "Versions and aliases of the tenant's models",
    ...keyed("admin"),
    responses: { 200: json(schemas.modelsAnswer, "One model for each service."), ...FAILURES },
  });
  add({
    method: "post",
    path: "/v1/models/{name}/aliases/{alias}",
    tags: ["Models"],
    summary: "Give an alias to a version, or roll the champion back",
    description: "A champion's goes through the gate. It scores within five seconds, on every host.",
    ...keyed("admin"),
    request: {
      params: z.object({ name: z.enum(namesOf(plan.services)), alias: z.enum(["champion", "challenger", "shadow"]) }),
      ...body(schemas.aliasRequest),
    },
    responses: {
      200: json(schemas.aliasAnswer, "The change."),
      ...FAILURES,
      409: problem("The gate refuses, the alias stands already, or somebody else has changed it meanwhile."),
    },
  });
  for (const route of feastRoutes(plan, keyed)) add(route);
  for (const route of [...adminRoutes(keyed, FAILURES), ...quarantineRoutes(keyed, FAILURES)]) add(route);
  const open = (path: string, summary: string, responses: Parameters<typeof createRoute>[0]["responses"]) =>
    add({ method: "get", path, tags: ["Operations"], summary, responses });
  open("/health", "Is the process alive?", { 200: json(schemas.healthAnswer, "It is.") });
  open("/ready", "Can it serve whole answers?", {
    200: json(schemas.readyAnswer, "It can."),
    503: problem("It cannot; `detail` and `repair` say why and what to do."),
  });
  open("/metrics", "Prometheus metrics", {
    200: { description: "Text exposition format.", content: { "text/plain": { schema: z.string() } } },
  });

  return app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Freshet",
      version,
      description: `Streaming features and scores. Plan ${plan.hash}. Errors are RFC 9457 problem documents.`,
    },
    servers: [{ url: "." }],
    "x-problem-codes": Object.fromEntries(Object.entries(PROBLEMS).map(([code, { status }]) => [code, status])),
  } as any);
}

const namesOf = (items: readonly { name: string }[]) => items.map(({ name }) => name) as [string, ...string[]];
