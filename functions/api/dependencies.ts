/** The API's ports, made from the environment: one place for Lambda functions and the plain server. */

import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { createAuditLog } from "../../adapters/audit-log.ts";
import { EventCodec } from "../../adapters/avro/event-codec.ts";
import { openPublisher } from "../../adapters/broker/open-broker.ts";
import { ATTEMPT_MS } from "../../adapters/broker/publishing.ts";
import { Erasures } from "../../adapters/erasure/erasures.ts";
import { MaterializeRequests } from "../../adapters/jobs/materialize-requests.ts";
import { RebuildRequests } from "../../adapters/jobs/rebuild-requests.ts";
import { deaggregate } from "../../adapters/kinesis/kpl.ts";
import type { OnlineReader } from "../../adapters/online-store/online-store.ts";
import { QuarantineIndex } from "../../adapters/quarantine/quarantine-index.ts";
import { QuarantineJobs } from "../../adapters/quarantine/quarantine-jobs.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { createSnapshotReader } from "../../adapters/snapshot/snapshot-reader.ts";
import { SnapshotTable } from "../../adapters/snapshot/snapshot-table.ts";
import { valkeyOptionsFromEnvironment } from "../../adapters/valkey/options.ts";
import { createReader, readingConnection } from "../../adapters/valkey/reader.ts";
import { createTokenBuckets } from "../../adapters/valkey/token-buckets.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import packageFile from "../../package.json" with { type: "json" };
import { brokerFromEnvironment } from "../shared/broker.ts";
import { optionalEnvironment, requireEnvironment } from "../shared/environment.ts";
import { framedReaders } from "../shared/schema-registry.ts";
import type { QuarantinePorts } from "./administration/quarantine.ts";
import { WriteLedger } from "./administration/write-ledger.ts";
import { checkLimits, createTenantStore } from "./admission/tenants.ts";
import type { ApiDependencies, FallbackPorts, IngestPorts, Log } from "./app.ts";
import type { HistoricalPorts } from "./historical/historical.ts";
import { createKeyStore } from "./keys/key-store.ts";
import type { Telemetry } from "./observability/telemetry.ts";
import type { PushedPorts } from "./registered/pushed-ports.ts";
import type { ScoringPorts } from "./scoring/scoring-ports.ts";

/**
 * @param options.serve which routes this host has
 * @throws FreshetError `environment_missing`
 */
export function createDependencies(options: {
  serve: { ingest: boolean; read: boolean };
  /** Made by `scoring-ports.ts`, for hosts that score. */
  scoring: ScoringPorts | null;
  /** Made by `historical-ports.ts`. */
  historical: HistoricalPorts | null;
  /** Made by `pushed-ports.ts`. */
  pushed: PushedPorts | null;
  telemetry?: Telemetry;
  log: Log;
}): ApiDependencies {
  // Keys are looked up on the way of a request: two quick tries, then a cached key or an answer that says so.
  const keysClient = new DynamoDBClient({ maxAttempts: 2, ...impatient(500) });
  const keysTable = requireEnvironment("keysTable");
  const enriches = options.serve.ingest && plan.streams.some(({ enrich }) => enrich !== undefined);
  const isStoreInReach = options.serve.read || enriches || optionalEnvironment("valkeyHost") !== undefined;
  // One for reads and limits: what a request asks of both travels together.
  const connection = isStoreInReach ? readingConnection(valkeyOptionsFromEnvironment()) : null;
  // Opened while the host starts and not by its first request; a store that is away is looked for again by each.
  connection?.primaries().catch(() => {});
  const reader = connection === null ? null : createReader(plan, connection);
  const auditLog = createAuditLog({
    table: requireEnvironment("auditTable"),
    retentionDays: Number(requireEnvironment("auditRetentionDays")),
    dynamodb: new DynamoDBClient({ maxAttempts: 2, ...impatient(1_000) }),
  });
  return {
    plan,
    services: definitions.services,
    keys: createKeyStore(keysClient, keysTable),
    limits: {
      defaults: checkLimits(JSON.parse(optionalEnvironment("limits") ?? "{}")),
      tenants: createTenantStore(keysClient, keysTable),
      store: connection === null ? null : createTokenBuckets(connection),
    },
    ingest: options.serve.ingest ? ingestPorts(enriches ? reader : null) : null,
    reader: options.serve.read ? reader : null,
    fallback: options.serve.read ? fallbackPorts() : undefined,
    scoring: options.scoring,
    historical: options.historical,
    // Ingest takes events alone: it has no administrators, and may only add records.
    audit: options.serve.read ? auditLog : null,
    writes: new WriteLedger({
      log: auditLog,
      clock: Date.now,
      onUnrecorded: (record, error) => options.log("audit record not written", { ...record }, error),
    }),
    erasures: options.serve.read
      ? new Erasures({
          table: requireEnvironment("erasuresTable"),
          dynamodb: new DynamoDBClient({ maxAttempts: 2, ...impatient(1_000) }),
        })
      : null,
    pushed: options.pushed,
    materialize: options.serve.read
      ? {
          requests: new MaterializeRequests({
            table: requireEnvironment("jobsTable"),
            dynamodb: new DynamoDBClient({ maxAttempts: 2, ...impatient(1_000) }),
          }),
        }
      : null,
    quarantine: options.serve.read ? quarantinePorts() : null,
    rebuild: options.serve.read
      ? {
          requests: new RebuildRequests({
            table: requireEnvironment("jobsTable"),
            dynamodb: new DynamoDBClient({ maxAttempts: 2, ...impatient(1_000) }),
          }),
        }
      : null,
    clock: Date.now,
    telemetry: options.telemetry,
    log: options.log,
    version: packageFile.version,
  };
}

function quarantinePorts(): QuarantinePorts {
  const table = requireEnvironment("quarantineTable");
  const dynamodb = new DynamoDBClient({ maxAttempts: 2, ...impatient(2_000) });
  const s3 = s3Client({ maxAttempts: 2, ...impatient(5_000) });
  return {
    index: new QuarantineIndex({ bucket: requireEnvironment("quarantineBucket"), table, s3, dynamodb }),
    jobs: new QuarantineJobs({ table, dynamodb }),
    decode: (contract, bytes) => EventCodec.for(contract).decode(bytes).fields,
  };
}

function fallbackPorts(): FallbackPorts {
  const totalMs = Number(optionalEnvironment("readBudgetMs") ?? 250);
  const storeMs = Number(optionalEnvironment("storeBudgetMs") ?? 100);
  const table = optionalEnvironment("snapshotsTable");
  // One try: a read has no time for another, and the next one tries again.
  const dynamodb = new DynamoDBClient({ maxAttempts: 1, ...impatient(totalMs) });
  const snapshots =
    table === undefined ? null : createSnapshotReader(plan, new SnapshotTable({ table, dynamodb }), Date.now);
  return { snapshots, budget: { totalMs, storeMs } };
}

function ingestPorts(lookups: OnlineReader | null): IngestPorts {
  return {
    // The publisher retries within its own budget, record by record.
    publisher: openPublisher(
      // Without a bound for connecting: calls that wait for a socket while all are busy would hit it.
      brokerFromEnvironment({
        maxAttempts: 1,
        requestHandler: { requestTimeout: ATTEMPT_MS, throwOnRequestTimeout: true },
      }),
      JSON.parse(requireEnvironment("streams")),
    ),
    codecs: (contract) => EventCodec.for(contract),
    framed: framedReaders(null),
    deaggregate,
    lookups,
  };
}

/** A caller waits behind every call: one that hangs is given up, where the SDK would wait for ever. */
const impatient = (requestTimeout: number) => ({
  requestHandler: { connectionTimeout: 500, requestTimeout, throwOnRequestTimeout: true },
});
