/** Bulk builds: from the archive's Parquet to tiles, and on into the store. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildEntities } from "../adapters/offline/build.ts";
import { DuckSession, sqlText } from "../adapters/offline/duckdb.ts";
import { entityEventsSql } from "../adapters/offline/entity-events.ts";
import { leanArchiveSql } from "../adapters/offline/tile-states.ts";
import { BUCKETS } from "../adapters/valkey/layout.ts";
import { RecordPacker } from "../adapters/valkey/record.ts";
import { floorTo } from "../core/tiles/window.ts";
import { BucketWriter } from "../functions/shared/build/bucket-writer.ts";
import { openStore, type TestStore } from "../test/support/store.ts";
import { startValkey } from "../test/support/valkey.ts";
import { writeArchiveFile } from "./archive-file.ts";
import type { Benchmark } from "./benchmark.ts";
import { aggregatePlan as plan } from "./definitions.ts";
import { ownCpuUs } from "./meters.ts";
import { seededRandom, transaction } from "./workload.ts";

const DAY_MS = 86_400_000;
const [stream] = plan.streams;
const ALL = Array.from({ length: BUCKETS }, (_, bucket) => bucket);

export const benchmark: Benchmark = {
  title: "Bulk build: 3 entities, 5 linear aggregates each, windows 5m, 1h, 24h; 26 hours of events",
  async run({ quick, signal, say }) {
    const events = quick ? 200_000 : 2_000_000;
    const rounds = quick ? 1 : 3;
    const folder = mkdtempSync(join(tmpdir(), "freshet-bench-build-"));
    const valkey = await startValkey();
    const sealMs = floorTo(Date.now(), 3_600_000) - 3_600_000;
    const file = join(folder, "archive.parquet");
    const figures = {
      built: [] as number[],
      put: [] as number[],
      applied: [] as number[],
      cpu: [] as number[],
      rss: 0,
    };
    try {
      const spanMs = DAY_MS + DAY_MS / 12;
      await writeArchiveFile(plan, folder, file, events, { fromMs: sealMs - spanMs, toMs: sealMs });
      const store = await openStore(plan, valkey, sealMs);
      const [node] = await store.connection.primaries();
      for (let round = 0; round < rounds; round++) {
        signal.throwIfAborted();
        const cpuUs = ownCpuUs();
        const built = await timed(events, () => build(folder, file, sealMs, null));
        figures.cpu.push((ownCpuUs() - cpuUs) / events);
        figures.built.push(built);
        // Nothing of the round before: an entity that is there is read first, which an import seldom meets.
        await dropEntities(store);
        figures.put.push(await timed(events, () => build(folder, file, sealMs, store)));
        figures.applied.push(await applied(store, quick ? 20_000 : 100_000, sealMs));
        figures.rss = Math.max(figures.rss, process.resourceUsage().maxRSS / 1_024);
        say(`round ${round + 1}: ${Math.round(built)} events/s built, ${Math.round(figures.put[round])} with puts`);
      }
      await node.ping();
      await store.connection.close();
    } finally {
      await valkey.stop();
      rmSync(folder, { recursive: true, force: true });
    }
    const note = `${events.toLocaleString("en-US")} events in one Parquet file, each of three entities; DuckDB with 2 threads and 1 GB, the process at most ${Math.round(figures.rss)} MB.`;
    return [
      {
        what: "tiles of all entities, as bytes",
        unit: "events/s",
        rounds: figures.built,
        target: { atLeast: 100_000 },
        note,
      },
      {
        what: "the same, put into Valkey",
        unit: "events/s",
        rounds: figures.put,
        baselines: [{ name: "applied one after the other, where the tiles still are open", rounds: figures.applied }],
      },
      { what: "CPU an event of the build without Valkey", unit: "µs", rounds: figures.cpu },
    ];
  },
};

async function timed(events: number, work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return events / ((performance.now() - startedMs) / 1_000);
}

/** @param store null: bytes are made and dropped */
async function build(folder: string, file: string, sealMs: number, store: TestStore | null): Promise<void> {
  const session = await DuckSession.open({ folder, memoryMb: 1_024 });
  try {
    await session.run(`CREATE VIEW archive AS SELECT * FROM read_parquet(${sqlText(file)})`);
    for (const group of plan.groups) {
      const { joinKey } = plan.entities.find(({ name }) => name === group.entity)!;
      await session.run(`CREATE OR REPLACE VIEW lean AS ${leanArchiveSql(group, joinKey, "archive")}`);
      const events = entityEventsSql(plan, group.entity, { archive: "lean", older: false });
      const listedUs = Date.now() * 1000;
      const target = { group, epoch: 1, sealMs, generation: listedUs, listedUs, fromMs: 0, completes: true };
      const writer = store === null ? null : new BucketWriter(store, target, ALL);
      for await (const entity of buildEntities(session, { group, sources: [{ tenant: "default", events }], sealMs })) {
        await writer?.add(entity);
      }
      await writer?.finish();
    }
  } finally {
    session.close();
  }
}

async function dropEntities({ connection }: TestStore): Promise<void> {
  for (const node of await connection.primaries()) {
    const keys = await node.keys("{*}7:default*");
    for (let from = 0; from < keys.length; from += 1_000) await node.unlink(...keys.slice(from, from + 1_000));
  }
}

async function applied({ applier }: TestStore, count: number, sealMs: number): Promise<number> {
  const packer = new RecordPacker(plan, stream.name);
  const random = seededRandom(3);
  const prepared = Array.from({ length: count }, (_, i) => {
    const timeMs = sealMs + Math.floor((i / count) * 600_000);
    return packer.prepare("default", `live-${timeMs}-${i}`, timeMs, transaction(random, `live-${i}`, timeMs));
  });
  return timed(count, () => applier.apply(prepared));
}
