/** Archives in the emulator's S3 that both DuckDB and the emulator's Athena read, and training sets of them by either. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AthenaClient } from "@aws-sdk/client-athena";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { type ArchiveRow, encodeArchive } from "../../adapters/archive/archive-format.ts";
import { hash64 } from "../../adapters/hash.ts";
import { archiveColumns, archiveSelect, listArchive } from "../../adapters/offline/archive-view.ts";
import { AthenaSource } from "../../adapters/offline/athena.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { buildLargeTrainingSet, type LargeSetOptions } from "../../adapters/offline/large-training-set.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { archiveMount } from "../../adapters/offline/mount.ts";
import type { TrainingManifest } from "../../adapters/offline/training-manifest.ts";
import { buildTrainingSet, type SetOptions } from "../../adapters/offline/training-set.ts";
import { WorkFolder } from "../../adapters/offline/work-folder.ts";
import { hourPath } from "../../adapters/s3/object-path.ts";
import type { Plan, Stream } from "../../core/plan.ts";
import { athenaStandIn, type StandIn } from "../harness/athena-stand-in.ts";
import { createBucket, createCatalogue, startEmulator, type TestEmulator, testClients } from "../harness/emulator.ts";

const BUCKET = "large-sets";
const TYPES: Readonly<Record<string, string>> = { long: "bigint", map: "map<string,string>" };

export interface LargeSetWorld {
  readonly emulator: TestEmulator;
  readonly s3: S3Client;
  readonly standIn: StandIn;
  readonly bucket: string;
  readonly folder: string;
  /** Lays rows into the archive of an own tenant, some raw, some compacted, some as both, and tells Athena of them. @returns the database */
  publish(tenant: string, plan: Plan, rows: readonly ArchiveRow[]): Promise<string>;
  small(options: Omit<SetOptions, "mountValues">): Promise<BuiltSet>;
  /** One call; null where it ran out of time. */
  large(
    options: Omit<SetOptions, "mountValues"> & { readonly database: string; readonly job: string },
    more?: Partial<LargeSetOptions> & { readonly through?: Pick<S3Client, "send"> },
  ): Promise<BuiltSet | null>;
  close(): Promise<void>;
}

export interface BuiltSet {
  readonly manifest: TrainingManifest;
  /** In the order of instants and events. */
  readonly rows: readonly Record<string, unknown>[];
}

export async function largeSetWorld(): Promise<LargeSetWorld> {
  const emulator = await startEmulator();
  await createBucket(emulator.url, BUCKET);
  const { s3 } = testClients(emulator.url);
  const folder = mkdtempSync(join(tmpdir(), "freshet-large-sets-"));
  const session = await DuckSession.open({ folder });
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  const athena = new AthenaClient({ endpoint: emulator.url, region: "us-east-1", credentials });
  const output = `s3://${BUCKET}/results/`;
  const standIn = await athenaStandIn({ athena, s3, database: "none", output });
  let made = 0;
  const put = (Key: string, path: string) =>
    s3.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body: readFileSync(path) }));
  const read = async (files: string): Promise<Record<string, unknown>[]> =>
    session.rows(`SELECT * FROM read_parquet('${files}', union_by_name = true) ORDER BY as_of_ms, event_id`);
  const mountValues = async () => "of no batch view";

  async function publishStream(database: string, tenant: string, stream: Stream, rows: readonly ArchiveRow[]) {
    const source = new AthenaSource({ athena, database, output, pollMs: 20 });
    for (const kind of ["raw", "compacted"] as const) {
      const columns = archiveColumns(stream).map(([name]) => {
        if (name === "fields") {
          const fields = Object.entries(stream.fields).map(([field, { type }]) => `${field}:${TYPES[type] ?? type}`);
          return `fields struct<${fields}>`;
        }
        if (name === "fates") return "fates array<struct<entity:string,id:string,fate:string,visible_ms:bigint>>";
        return `${name} ${/_ms$/.test(name) ? "bigint" : name === "sub_sequence" ? "int" : "string"}`;
      });
      const location = `s3://${BUCKET}/catalogue/${database}/${kind}_${stream.name}/`;
      await source.run(
        `CREATE EXTERNAL TABLE ${database}.${kind}_${stream.name} (${columns.join(", ")}) PARTITIONED BY (tenant string, dt string, hh string) STORED AS PARQUET LOCATION '${location}'`,
      );
      const hours = Map.groupBy(
        rows.filter((row) => {
          const drawn = Number.parseInt(hash64(JSON.stringify(row)).slice(0, 2), 16) % 3;
          // What is refused is not compacted without a time.
          return kind === "raw" ? drawn !== 0 || row.eventTimeMs === null : drawn !== 1 && row.eventTimeMs !== null;
        }),
        ({ arrivalMs, eventTimeMs }) => hourPath(kind === "raw" ? arrivalMs : eventTimeMs!),
      );
      for (const [hour, of] of hours) {
        const raw = join(folder, "rows.ndjson.zst");
        const parquet = join(folder, "rows.parquet");
        writeFileSync(raw, encodeArchive(of));
        await session.run(`COPY (${archiveSelect(stream, [raw], [])}) TO '${parquet}' (FORMAT parquet)`);
        const base = `${kind}/tenant=${tenant}/stream=${stream.name}/${hour}/${of[0]!.arrivalMs}-${made++}`;
        await put(kind === "raw" ? `${base}.ndjson.zst` : `${base}.parquet`, kind === "raw" ? raw : parquet);
        // The emulator's Athena would guess the types of JSON.
        await put(`catalogue/${database}/${kind}_${stream.name}/tenant=${tenant}/${hour}/${made++}.parquet`, parquet);
      }
    }
  }

  return {
    ...{ emulator, s3, standIn, folder, bucket: BUCKET },
    async publish(tenant, plan, rows) {
      const database = `catalogue_${tenant}`;
      await createCatalogue(emulator.url, database);
      for (const stream of plan.streams) {
        const own = rows.filter((row) => row.stream === stream.name);
        if (own.length > 0 || stream.name !== "") await publishStream(database, tenant, stream, own);
      }
      const source = new AthenaSource({ athena, database, output, pollMs: 20 });
      await source.run(
        `CREATE EXTERNAL TABLE ${database}.job_keys (id string) PARTITIONED BY (tenant string, job string, kind string) STORED AS PARQUET LOCATION 's3://${BUCKET}/athena-keys/'`,
      );
      return database;
    },
    async small(options) {
      const own = join(folder, `small-${made++}`);
      const duck = await DuckSession.open({ folder: own });
      try {
        const mirror = new ArchiveMirror({ s3, bucket: BUCKET, folder: own });
        const mount = archiveMount(duck, mirror, options.tenant);
        const out = join(own, "set");
        const manifest = await buildTrainingSet(duck, { ...options, mount, mountValues, out });
        return { manifest, rows: await read(`${out}/*.parquet`) };
      } finally {
        duck.close();
      }
    },
    async large({ database, job, ...options }, { through = s3, ...more } = {}) {
      const own = join(folder, `large-${made++}`);
      const out = join(folder, `set-${job}`);
      mkdirSync(join(own, "work"), { recursive: true });
      mkdirSync(out, { recursive: true });
      const duck = await DuckSession.open({ folder: own });
      const at = { s3: through, bucket: BUCKET };
      const mirror = new ArchiveMirror({ ...at, folder: own });
      try {
        const manifest = await buildLargeTrainingSet(duck, {
          ...{ ...options, mountValues, job },
          athena: { athena: standIn.athena, database, output: null, pollMs: 5 },
          work: new WorkFolder({ ...at, prefix: `athena/tenant=${options.tenant}/job=${job}/` }),
          keys: new WorkFolder({ ...at, prefix: `athena-keys/tenant=${options.tenant}/job=${job}/` }),
          list: (stream, range) => listArchive(mirror, { tenant: options.tenant, stream, ...range }),
          folder: join(own, "work"),
          outOfTime: () => false,
          put: async (name, path) => writeFileSync(join(out, name), readFileSync(path)),
          ...more,
        });
        return manifest === null ? null : { manifest, rows: await read(`${out}/*.parquet`) };
      } finally {
        duck.close();
        rmSync(own, { recursive: true, force: true });
      }
    },
    async close() {
      standIn.close();
      session.close();
      athena.destroy();
      await emulator.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
