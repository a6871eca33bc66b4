/** The plain server with a real registry, real artefacts and a real log, over a store of the test's making; each test has a tenant of its own. */
import { GetObjectCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { createInferenceLog } from "../../../../adapters/inference-log/inference-log.ts";
import { type InferenceRow, readInferenceLog } from "../../../../adapters/inference-log/inference-log-format.ts";
import { createArtefactStore } from "../../../../adapters/model/artefact-store.ts";
import { createExactExplainer } from "../../../../adapters/model/exact-explainer.ts";
import { ModelRegistry } from "../../../../adapters/model/model-registry.ts";
import { promote } from "../../../../adapters/model/promotion.ts";
import { registerModel } from "../../../../adapters/model/register.ts";
import { createModelServing, type ServingEvent } from "../../../../adapters/model/serving.ts";
import type { FeatureServiceDefinition } from "../../../../core/definition.ts";
import type { FeatureValue, Scalar } from "../../../../core/plan.ts";
import type { FallbackPorts } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { createScoreLogger } from "../../../../functions/api/scoring/score-log.ts";
import type { ScoringPorts } from "../../../../functions/api/scoring/scoring-ports.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";
import { alteredFolder, modelDefinition, modelJson, modelPlan } from "../../../support/model-fixture.ts";
import { caller, conforming, type Reply } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const manifest = modelJson("manifest.json");
export const golden = modelJson("golden.json");
/** A request's keys: of each entity its first. */
export const keysBody = Object.fromEntries(modelPlan.entities.map(({ name, joinKey }) => [joinKey, `${name}-1`]));

/** On-demand features are computed, so a golden row can only be had again where its own are missing or as computed. */
const onDemandAt = manifest.features.flatMap(({ name }: any, i: number) => (name.includes(":") ? [] : [i]));
/** Which golden rows can be had again. */
export const plain: number[] = golden.rows.flatMap((row: (number | null)[], i: number) =>
  row.every((value, at) => onDemandAt.includes(at) || value === null || Math.abs(value) < 1e6) ? [i] : [],
);
/** On-demand functions that give what the golden row has. */
export const computing = (row: (number | null)[]): Partial<FeatureServiceDefinition> => ({
  onDemand: Object.fromEntries(
    onDemandAt.map((at: number) => [
      manifest.features[at].name,
      () => {
        const value = row[at];
        return value !== null && manifest.features[at].dtype === "boolean" ? Boolean(value) : value;
      },
    ]),
  ),
});

/** Starts what the tests of a file share, and ends it after them. */
export function openModelHost() {
  const ports = testDependencies();
  const { reader } = ports;
  const events: ServingEvent[] = [];
  let emulator: TestEmulator;
  let server: RunningServer | undefined;
  let registry: ModelRegistry;
  let scoring: ScoringPorts;
  let tenants = 0;
  let tenant: string;
  let key: string;

  beforeAll(async () => {
    emulator = await startEmulator();
    await createBucket(emulator.url, "models");
    await createBucket(emulator.url, "archive");
    await createTable(emulator.url, "models");
    const { dynamodb, s3 } = testClients(emulator.url);
    const artefacts = createArtefactStore({ bucket: "models", s3 });
    registry = new ModelRegistry({ table: "models", dynamodb, artefacts });
  });
  afterAll(async () => {
    await server?.close();
    await emulator?.stop();
  });
  beforeEach(async () => {
    await enter();
    Object.assign(reader, { down: false, fault: null, degraded: null, control: "ok" });
    reader.values.clear();
    events.length = 0;
  });

  /** Whose calls are from now on. @param of by default a tenant that is new */
  async function enter(scopes: readonly string[] = ["read", "score", "admin"], of = `team-${tenants++}`) {
    tenant = of;
    ({ key } = await createKey(ports.keys, { tenant, scopes, nowMs: 0 }));
  }

  /** A server of its own for what the service says of itself. */
  async function start(
    more: Partial<FeatureServiceDefinition> = {},
    pollMs = 50,
    fallback?: FallbackPorts,
  ): Promise<void> {
    await server?.close();
    const { s3 } = testClients(emulator.url);
    const serving = createModelServing({
      registry,
      plan: modelPlan,
      clock: Date.now,
      pollMs,
      onEvent: (event) => events.push(event),
    });
    const log = createInferenceLog({
      bucket: "archive",
      s3,
      maxDelayMs: 60_000,
      onFault: ({ error }) => Promise.reject(error),
    });
    const logger = createScoreLogger({ log, plan: modelPlan, onFault: ({ error }) => Promise.reject(error) });
    const explainer = createExactExplainer({ timeoutMs: 60_000 });
    scoring = {
      registry,
      serving,
      logger,
      explainer,
      async close() {
        await logger.close();
        await Promise.all([serving.close(), explainer.close()]);
      },
    };
    const services = [modelDefinition(more)];
    const dependencies = { ...ports.dependencies, plan: modelPlan, services, scoring, fallback };
    server = await listen({ port: 0, dependencies });
  }

  const call = (path: string, options: { body?: unknown; method?: string } = {}): Promise<Reply> =>
    caller({
      baseUrl: () => server!.url,
      keys: () => ({ first: key, second: "", readOnly: "", expired: "" }),
      plan: modelPlan,
      exactBytes: true,
    })(path, options);

  async function score(body: object = {}) {
    const reply = await call("/v1/score/fraud", { body: { ...keysBody, ...body } });
    if (reply.status !== 200) throw new Error(JSON.stringify(reply.body));
    return conforming(schemas.scoreAnswer, reply);
  }

  const register = (metrics: Record<string, number> = {}) =>
    registerModel(
      registry,
      alteredFolder((given) => void Object.assign(given.metrics, metrics)),
      { tenant, service: "fraud", plan: modelPlan, nowMs: Date.now(), by: "test" },
    );

  /** Without a look at the artefact: as when it breaks later. */
  const give = (version: number, alias: "champion" | "challenger" | "shadow" = "champion", more: object = {}) =>
    promote(
      registry,
      { tenant, service: "fraud" },
      { version, alias, check: async () => {}, nowMs: Date.now(), by: "test", ...more },
    );

  /** Other bytes in the place of a registered version's. */
  async function spoil(version: number, files: Record<string, Uint8Array>): Promise<void> {
    const { prefix } = await registry.get({ tenant, service: "fraud" }, version);
    const { s3 } = testClients(emulator.url);
    await createArtefactStore({ bucket: "models", s3 }).put(prefix, files);
  }

  /** A golden row as the values that it was encoded from, put into the store; the request's fields are given back. */
  function recall(row: (number | null)[] = golden.rows[plain[0]]): Record<string, Scalar> {
    const request: Record<string, Scalar> = {};
    manifest.features.forEach(({ name, dtype, categories }: any, i: number) => {
      const code = row[i];
      const text = code !== null && code < 0 ? "never seen" : categories?.[code as number];
      const value = code === null ? null : dtype === "string" ? text : dtype === "boolean" ? Boolean(code) : code;
      if (name.startsWith("request:")) request[name.slice("request:".length)] = value;
      else if (name.includes(":")) {
        const entity = modelPlan.views.find((view) => name.startsWith(`${view.name}:`))!.entity;
        const path = `${tenant}/${entity}/${entity}-1`;
        const given: FeatureValue = { value, status: value === null ? "NULL_VALUE" : "PRESENT", eventTimeMs: 1 };
        reader.values.set(path, { ...reader.values.get(path), [name]: given });
      }
    });
    return request;
  }

  /** The tenant's scores, once the log has written all that it has. */
  async function logged(): Promise<InferenceRow[]> {
    await scoring.logger.settle();
    const { s3 } = testClients(emulator.url);
    const Prefix = `inference-log/tenant=${tenant}/`;
    const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket: "archive", Prefix }));
    const rows: InferenceRow[] = [];
    for (const { Key } of Contents) {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: "archive", Key }));
      rows.push(...readInferenceLog(await Body!.transformToByteArray()));
    }
    return rows;
  }

  return {
    ...{ audit: ports.audit, reader, events, enter, start, call, score, register, give, spoil, recall, logged },
    get tenant(): string {
      return tenant;
    },
    get registry(): ModelRegistry {
      return registry;
    },
    get serving(): ScoringPorts["serving"] {
      return scoring.serving;
    },
    closeServer: () => server!.close(),
  };
}
