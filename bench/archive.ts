/** The archive's own work: history in, raw objects to Parquet. S3 is a map in this process, so that only our work is measured. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NoSuchKey, type S3Client } from "@aws-sdk/client-s3";
import { archiveSelect } from "../adapters/offline/archive-view.ts";
import { compactStream } from "../adapters/offline/compaction.ts";
import { DuckSession, sqlText } from "../adapters/offline/duckdb.ts";
import { importFile } from "../adapters/offline/import/import-file.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { plan } from "../features/plan.ts";
import type { Benchmark, Row } from "./benchmark.ts";

const START_MS = Date.UTC(2026, 8, 1);
const HOUR_MS = 3_600_000;
const stream = plan.streams.find(({ name }) => name === "transactions")!;

interface Round {
  imported: number;
  parsed: number;
  duckdb: number;
  compacted: number;
  converted: number;
}

export const benchmark: Benchmark = {
  title: "Archive: import of history, compaction",
  async run(options) {
    const rows = options.quick ? 40_000 : 400_000;
    const kept: Round[] = [];
    for (let round = 0; round <= (options.quick ? 1 : 3); round++) {
      options.signal.throwIfAborted();
      const measured = await measure(round === 0 ? rows / 4 : rows, round);
      if (round > 0) kept.push(measured);
      options.say(
        `round ${round}: ${Math.round(measured.imported)} rows/s imported, ${Math.round(measured.compacted)} compacted`,
      );
    }
    return table(rows, kept);
  },
};

async function measure(rows: number, round: number): Promise<Round> {
  const folder = mkdtempSync(join(tmpdir(), "freshet-bench-archive-"));
  const session = await DuckSession.open({ folder });
  try {
    const file = join(folder, "history.ndjson");
    const lines = Array.from({ length: rows }, (_, n) => JSON.stringify(transaction(n, round, rows)));
    writeFileSync(file, lines.join("\n"));
    const perSecond = async (work: () => Promise<unknown> | unknown): Promise<number> => {
      const startedAt = performance.now();
      await work();
      return rows / ((performance.now() - startedAt) / 1_000);
    };
    const parsed = await perSecond(() => lines.map((line) => JSON.parse(line)));
    const bare = sqlText(join(folder, "bare.parquet"));
    const duckdb = await perSecond(() =>
      session.run(
        `COPY (SELECT * FROM read_json(${sqlText(file)}, format = 'newline_delimited')) TO ${bare} (FORMAT parquet, COMPRESSION zstd)`,
      ),
    );
    const s3 = bucketInMemory();
    const imported = await perSecond(() =>
      importFile({
        ...{ plan, stream, file, folder, format: "ndjson", tenant: "default", arrival: { delayMs: 0 } },
        ...{ sealMs: Number.POSITIVE_INFINITY, nowMs: Date.now(), minEventTimeMs: 0, ignoreUnknown: false },
        target: { s3, bucket: "archive", late: { put: async () => {} }, note: async () => {} },
      }),
    );
    const mirror = new ArchiveMirror({ s3, bucket: "archive", folder });
    const raw = await mirror.list("raw/");
    await mirror.fetch(raw);
    const select = archiveSelect(
      stream,
      raw.map(({ key }) => mirror.path(key)),
      [],
    );
    const out = sqlText(join(folder, "converted.parquet"));
    const converted = await perSecond(() =>
      session.run(`COPY (${select}) TO ${out} (FORMAT parquet, COMPRESSION zstd)`),
    );
    await mirror.forget(raw);
    const compacted = await perSecond(async () => {
      const report = await compactStream({
        ...{ session, mirror, s3, stream, folder, tenant: "default", nowMs: Date.now(), graceMs: HOUR_MS },
      });
      if (report.rows !== rows) throw new Error(`${report.rows} of ${rows} rows were compacted`);
    });
    return { imported, parsed, duckdb, compacted, converted };
  } finally {
    session.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Over six hours, in order. */
const transaction = (n: number, round: number, rows: number) => ({
  transaction_id: `t${round}-${n}`,
  event_time: START_MS + Math.floor((n * 6 * HOUR_MS) / rows),
  card_id: `c${(n * 7919) % 20_000}`,
  user_id: `u${(n * 7919) % 20_000}`,
  merchant_id: `m${(n * 104_729) % 700}`,
  amount: ((n * 15_485_863) % 100_000) / 100,
  currency: "EUR",
  country: ["DE", "NO", "FR"][n % 3],
  merchant_category: "grocery",
  status: n % 20 === 0 ? "declined" : "approved",
  device_id: n % 2 === 0 ? `d${n % 9_000}` : null,
  channel: "pos",
});

function bucketInMemory(): Pick<S3Client, "send"> {
  const objects = new Map<string, Buffer>();
  const answer = ({ constructor: { name }, input }: any): unknown => {
    if (name === "PutObjectCommand") objects.set(input.Key, Buffer.from(input.Body));
    else if (name === "ListObjectsV2Command") {
      const keys = [...objects.keys()]
        .filter((key) => key.startsWith(input.Prefix) && key > (input.StartAfter ?? ""))
        .sort();
      return { Contents: keys.map((Key) => ({ Key, Size: objects.get(Key)!.length })) };
    } else if (name === "GetObjectCommand") {
      const body = objects.get(input.Key);
      if (body === undefined) throw new NoSuchKey({ message: "gone", $metadata: {} });
      return { Body: { transformToByteArray: async () => body } };
    }
    return {};
  };
  return { send: (async (command: unknown) => answer(command)) as S3Client["send"] };
}

function table(rows: number, rounds: readonly Round[]): Row[] {
  const of = (name: keyof Round): number[] => rounds.map((round) => round[name]);
  return [
    {
      what: "import of NDJSON, checked, as archive objects",
      unit: "rows/s",
      rounds: of("imported"),
      target: { atLeast: 50_000 },
      baselines: [
        { name: "DuckDB reads the same file and writes Parquet, unchecked, two threads", rounds: of("duckdb") },
        { name: "JSON.parse of the lines alone", rounds: of("parsed") },
      ],
      note: `${rows} rows with entities of four types, over six hours; one thread; S3 is a map in the process.`,
    },
    {
      what: "compaction, raw objects to merged Parquet",
      unit: "rows/s",
      rounds: of("compacted"),
      baselines: [{ name: "DuckDB converts the same objects, unmerged", rounds: of("converted") }],
      note: "Two threads of DuckDB, 4 GB. Fetching, checking, finding repeated events and conflicts, sorting, one object an hour, the log record.",
    },
  ];
}
