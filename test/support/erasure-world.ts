/** Two tenants with cards of the same ids in every place that holds entities, of real parts: Valkey, and the emulator's S3 and DynamoDB. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { type AttributeValue, type DynamoDBClient, ScanCommand } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { ArchiveWriter } from "../../adapters/archive/archive.ts";
import { Erasures } from "../../adapters/erasure/erasures.ts";
import { hash64 } from "../../adapters/hash.ts";
import { encodeInferenceLog, inferenceLine } from "../../adapters/inference-log/inference-log-format.ts";
import { LateQueue } from "../../adapters/late-queue/late-queue.ts";
import { compactStream } from "../../adapters/offline/compaction.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { packedLine, writeLines } from "../../adapters/pushed/values-format.ts";
import { QuarantineWriter } from "../../adapters/quarantine/quarantine.ts";
import { BulkStore } from "../../adapters/snapshot/bulk-store.ts";
import { SnapshotTable } from "../../adapters/snapshot/snapshot-table.ts";
import { eraseCall } from "../../adapters/valkey/erase.ts";
import { packValues } from "../../adapters/valkey/packed.ts";
import { pushRows } from "../../adapters/valkey/push.ts";
import { RecordPacker } from "../../adapters/valkey/record.ts";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import { plan } from "../../features/plan.ts";
import { type AggregationPorts, aggregateBatch } from "../../functions/shared/aggregation/aggregation.ts";
import type { ErasurePorts } from "../../functions/shared/erasure/erasure-steps.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../harness/emulator.ts";
import { inferenceRow } from "./inference-row.ts";
import { openStore, type TestStore } from "./store.ts";
import { startValkey, type TestValkey } from "./valkey.ts";

export const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const BUCKETS = { archive: "archive", quarantine: "quarantine", training: "training", rounds: "rounds" };
export const TABLES = { late: "late", snapshots: "snapshots", quarantine: "quarantine", erasures: "erasures" };

interface StoredHash {
  readonly key: string;
  readonly items: readonly Buffer[];
}

export interface WorldEvent {
  readonly id: string;
  readonly card: string;
  readonly merchant: string;
  readonly atMs: number;
  readonly device?: string;
}

export interface ErasureWorld {
  readonly nowMs: number;
  readonly store: TestStore;
  readonly s3: S3Client;
  readonly dynamodb: DynamoDBClient;
  readonly erasures: Erasures;
  readonly mirror: ArchiveMirror;
  readonly folder: string;
  readonly at: { readonly host: string; readonly port: number };
  /** Delivers events as the aggregate function is given them. */
  readonly deliver: (tenant: string, events: readonly WorldEvent[]) => Promise<void>;
  /** The same of an event that is a little ahead of the clock. */
  readonly deliverAt: (tenant: string, event: WorldEvent) => Promise<void>;
  readonly label: (tenant: string, events: readonly string[]) => Promise<void>;
  readonly compact: (tenant: string, stream: string) => Promise<void>;
  /** Everything else that holds a card. */
  readonly scatter: (tenant: string, card: string, merchant: string) => Promise<void>;
  readonly ports: (s3?: Pick<S3Client, "send">, dynamodb?: Pick<DynamoDBClient, "send">) => ErasurePorts;
  /** All that S3 and the tables hold of a tenant, as text, by where it is. */
  readonly everything: (tenant: string) => Promise<Map<string, string>>;
  /** Objects of the archive's bucket. */
  readonly put: (key: string, body: string) => Promise<unknown>;
  /** Of the bucket of training sets. */
  readonly putTraining: (key: string, body: string) => Promise<unknown>;
  readonly copy: (from: string, to: string) => Promise<unknown>;
  /** Removes what the store has of an entity, as a loss does. */
  readonly wipe: (tenant: string, entity: string, id: string) => Promise<void>;
  /** What the store has of an entity, and back: as a snapshot has it. */
  readonly hashesOf: (tenant: string, entity: string, id: string) => Promise<StoredHash[]>;
  readonly load: (tenant: string, entity: string, id: string, hashes: readonly StoredHash[]) => Promise<void>;
  readonly stop: () => Promise<void>;
}

export async function startErasureWorld(): Promise<ErasureWorld> {
  const [emulator, valkey]: [TestEmulator, TestValkey] = await Promise.all([startEmulator(), startValkey()]);
  for (const bucket of Object.values(BUCKETS)) await createBucket(emulator.url, bucket);
  for (const table of Object.values(TABLES)) await createTable(emulator.url, table);
  const { s3, dynamodb } = testClients(emulator.url);
  const folder = mkdtempSync(join(tmpdir(), "freshet-erasure-"));
  const nowMs = Math.floor(Date.now() / MINUTE) * MINUTE;
  const store = await openStore(plan, valkey, nowMs - HOUR);
  const mirror = new ArchiveMirror({ s3, bucket: BUCKETS.archive, folder: join(folder, "mirror") });
  const late = new LateQueue({ table: TABLES.late, dynamodb });
  let sequence = 0;

  async function batch(tenant: string, streamName: string, all: readonly Record<string, unknown>[], arrivalMs: number) {
    const stream = plan.streams.find(({ name }) => name === streamName)!;
    const ports: AggregationPorts = {
      ...{ plan, stream },
      codec: {
        decode: (bytes: Buffer) => ({ fields: JSON.parse(bytes.toString()) }),
      } as unknown as AggregationPorts["codec"],
      packer: new RecordPacker(plan, streamName),
      applier: store.applier,
      watermark: new Watermark(store.connection),
      archive: new ArchiveWriter({ bucket: BUCKETS.archive, s3 }),
      quarantine: new QuarantineWriter({ bucket: BUCKETS.quarantine, table: TABLES.quarantine, s3, dynamodb }),
      late,
    };
    const records = all.map((fields) => ({
      sequence: String(++sequence).padStart(6, "0"),
      arrivalMs,
      bytes: Buffer.from(JSON.stringify({ tenant, ...fields })),
    }));
    await aggregateBatch(ports, "shard-0", records);
  }
  const fieldsOf = ({ id, card, merchant, atMs, device }: WorldEvent) => ({
    ...{ transaction_id: id, event_time: atMs, card_id: card, user_id: null, merchant_id: merchant },
    ...{ device_id: device ?? null, amount: 12.5, currency: "EUR", country: "DE", merchant_category: "fuel" },
    ...{ channel: "online", status: "approved" },
  });
  const deliver: ErasureWorld["deliver"] = (tenant, events) =>
    batch(tenant, "transactions", events.map(fieldsOf), Date.now());
  const deliverAt: ErasureWorld["deliverAt"] = (tenant, event) =>
    batch(tenant, "transactions", [fieldsOf(event)], event.atMs);
  const label: ErasureWorld["label"] = (tenant, events) =>
    batch(
      tenant,
      "labels",
      events.map((id) => ({
        ...{ label_id: `label-of-${id}`, transaction_id: id, event_time: nowMs, is_fraud: true },
        ...{ source: "chargeback", reason: "10.4" },
      })),
      Date.now(),
    );

  async function compact(tenant: string, streamName: string) {
    const session = await DuckSession.open({ folder });
    try {
      const stream = plan.streams.find(({ name }) => name === streamName)!;
      const options = { session, mirror, s3, tenant, stream, nowMs: Date.now(), graceMs: HOUR, folder };
      await compactStream(options);
    } finally {
      session.close();
    }
  }

  async function scatter(tenant: string, card: string, merchant: string) {
    const view = "_pushed";
    const packed = packValues([{ id: 0, dtype: "int64", value: 7 }], nowMs - HOUR);
    const pushes = [
      { tenant, entity: "card", id: card, view, eventTimeMs: nowMs - HOUR, packed, reachMs: 48 * HOUR },
      { tenant, entity: "merchant", id: merchant, view, eventTimeMs: nowMs - HOUR, packed, reachMs: 48 * HOUR },
    ];
    await pushRows(store.applier, pushes);
    const lines = pushes.map((row) => packedLine({ ...row, visibleMs: nowMs }));
    await writeLines({ s3, bucket: BUCKETS.archive }, { tenant, view }, nowMs, lines);
    const score = { tenant, asOfMs: nowMs - MINUTE, features: [], values: [], statuses: [], vector: null };
    const scores = [
      inferenceRow({ ...score, requestId: `r-${card}`, eventId: `e-${card}`, keys: { card_id: card } }),
      inferenceRow({ ...score, requestId: "r-other", eventId: "e-other", keys: { card_id: "card-other" } }),
      inferenceRow({ ...score, requestId: "r-event", eventId: `${card}-1`, keys: {} }),
    ];
    await put(
      BUCKETS.archive,
      `inference-log/tenant=${tenant}/service=fraud/dt=2026-01-01/hh=00/0000000000001-11111111-1111-4111-8111-111111111111.ndjson.zst`,
      await encodeInferenceLog(Buffer.from(scores.map(inferenceLine).join(""))),
    );
    const avro = (text: string) => Buffer.concat([Buffer.from([text.length * 2]), Buffer.from(text)]);
    const refused = [`x${card}`, card, "card-other"].map((id, i) => ({
      ...{
        stream: "transactions",
        arrivalMs: nowMs - MINUTE,
        shard: `q-${tenant}`,
        sequence: String(i),
        subSequence: 0,
      },
      ...{
        tenant: i === 1 ? tenant : i === 0 ? tenant : null,
        reason: "avro_truncated",
        field: null,
        message: "cut off",
      },
      ...{ fingerprint: null, bytes: Buffer.concat([Buffer.from([0xc3, 1]), avro(tenant), avro(id)]) },
    }));
    const unattributed = { ...refused[1], tenant: null, sequence: "9" };
    const quarantine = new QuarantineWriter({ bucket: BUCKETS.quarantine, table: TABLES.quarantine, s3, dynamodb });
    await quarantine.write([...refused, unattributed]);
    await late.put(
      (["card", "merchant"] as const).map((entity) => ({
        ...{ tenant, entity, id: entity === "card" ? card : merchant, stream: "transactions", baseIndex: 1 },
        ...{ identity: hash64(`late of ${card}`), eventId: `late-${tenant}`, eventTimeMs: 1, arrivalMs: 2 },
      })),
    );
    const snapshots = new SnapshotTable({ table: TABLES.snapshots, dynamodb });
    for (const [entity, id] of [
      ["card", card],
      ["merchant", merchant],
    ] as const) {
      for (const stream of ["transactions", null]) {
        const item = { tenant, entity, id, stream, epoch: 1, rev: 1, takenMs: 1, data: null, expiresMs: null };
        await snapshots.put(item);
      }
    }
    await put(BUCKETS.archive, `historical/tenant=${tenant}/job=1/spine.json`, JSON.stringify([{ card_id: card }]));
    const session = await DuckSession.open({ folder });
    try {
      const file = join(folder, `${tenant}-set.parquet`);
      await session.run(`COPY (SELECT '${card}' AS card_id, 1 AS label) TO '${file}' (FORMAT parquet)`);
      await put(BUCKETS.archive, `historical/tenant=${tenant}/job=1/set.parquet`, readFileSync(file));
      await session.run(`COPY (SELECT 'card-other' AS card_id, 1 AS label) TO '${file}' (FORMAT parquet)`);
      await put(BUCKETS.archive, `historical/tenant=${tenant}/job=2/set.parquet`, readFileSync(file));
    } finally {
      session.close();
    }
  }
  const keysOf = (tenant: string, entity: string, id: string) =>
    eraseCall(plan, { tenant, entity, id }, { beforeMs: 0, keepUntilMs: null, clean: false }).keys.map(
      ({ key }) => key,
    );
  const wipe: ErasureWorld["wipe"] = async (tenant, entity, id) => {
    const commands = keysOf(tenant, entity, id).map((key) => ({ key, name: "DEL", args: [key] }));
    await store.connection.demand(commands);
  };
  const put = (Bucket: string, Key: string, Body: Buffer | string) =>
    s3.send(new PutObjectCommand({ Bucket, Key, Body }));

  async function everything(tenant: string): Promise<Map<string, string>> {
    const found = new Map<string, string>();
    const session = await DuckSession.open({ folder });
    try {
      for (const Bucket of Object.values(BUCKETS)) {
        const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket }));
        for (const { Key } of Contents) {
          if (!Key!.includes(`tenant=${tenant}/`)) continue;
          const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key }));
          found.set(`${Bucket}/${Key}`, await textOf(session, Key!, Buffer.from(await Body!.transformToByteArray())));
        }
      }
    } finally {
      session.close();
    }
    for (const table of [TABLES.late, TABLES.snapshots, TABLES.quarantine]) {
      const { Items = [] } = await dynamodb.send(new ScanCommand({ TableName: table }));
      const own = Items.filter((item: Record<string, AttributeValue>) =>
        JSON.stringify(item["pk"]).includes(`:${tenant}`),
      );
      found.set(`table ${table}`, JSON.stringify(own));
    }
    return found;
  }

  async function textOf(session: DuckSession, key: string, body: Buffer): Promise<string> {
    if (key.endsWith(".zst")) return zstdDecompressSync(body).toString("utf8");
    if (key.startsWith("quarantine/")) {
      const lines = body.toString("utf8").trimEnd().split("\n");
      return lines.map((line) => `${line} ${Buffer.from(JSON.parse(line).bytes ?? "", "base64")}`).join("\n");
    }
    if (!key.endsWith(".parquet")) return body.toString("utf8");
    const file = join(folder, "look.parquet");
    writeFileSync(file, body);
    const rows = await session.rows(`SELECT to_json(t) AS row FROM read_parquet('${file}') AS t`);
    return rows.map(({ row }) => row).join("\n");
  }

  return {
    ...{ nowMs, store, s3, dynamodb, mirror, folder, deliver, deliverAt, label, compact, scatter, everything },
    at: { host: valkey.host, port: valkey.port },
    put: (key, body) => put(BUCKETS.archive, key, body),
    putTraining: (key, body) => put(BUCKETS.training, key, body),
    async copy(from, to) {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: BUCKETS.archive, Key: from }));
      return put(BUCKETS.archive, to, Buffer.from(await Body!.transformToByteArray()));
    },
    wipe,
    async hashesOf(tenant, entity, id) {
      const keys = keysOf(tenant, entity, id);
      const answers = await store.connection.demand(keys.map((key) => ({ key, name: "HGETALL", args: [key] })));
      return keys.map((key, i) => ({ key, items: answers[i] as Buffer[] })).filter(({ items }) => items.length > 0);
    },
    async load(tenant, entity, id, hashes) {
      await wipe(tenant, entity, id);
      await store.connection.demand(hashes.map(({ key, items }) => ({ key, name: "HSET", args: [key, ...items] })));
    },
    erasures: new Erasures({ table: TABLES.erasures, dynamodb }),
    ports: (through = s3, tables = dynamodb) => ({
      plan,
      applier: async () => store.applier,
      late: { dynamodb: tables, table: TABLES.late },
      snapshots: { dynamodb: tables, table: TABLES.snapshots },
      rounds: {
        snapshots: new BulkStore({ s3: through, bucket: BUCKETS.rounds }),
        objects: { s3: through, bucket: BUCKETS.rounds },
      },
      archive: { s3: through, bucket: BUCKETS.archive },
      mirror: new ArchiveMirror({ s3: through, bucket: BUCKETS.archive, folder: join(folder, "mirror") }),
      quarantine: { s3: through, bucket: BUCKETS.quarantine },
      quarantineIndex: { dynamodb: tables, table: TABLES.quarantine },
      training: { s3: through, bucket: BUCKETS.training },
      duck: { folder, memoryMb: 512 },
    }),
    async stop() {
      await store.connection.close();
      await Promise.all([emulator.stop(), valkey.stop()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
