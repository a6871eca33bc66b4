/** Repair of late events, beside a day's archive and an hour that is not compacted yet. */
import { randomUUID } from "node:crypto";
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { GetObjectCommand, type ListObjectsV2Command } from "@aws-sdk/client-s3";
import { type ArchiveRow, encodeArchive } from "../adapters/archive/archive-format.ts";
import type { PendingItem } from "../adapters/late-queue/late-work.ts";
import { findEvents } from "../adapters/offline/late-rows.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { hourPath } from "../adapters/s3/object-path.ts";
import { readMendTokens } from "../adapters/valkey/mend.ts";
import { type PreparedEvent, RecordPacker } from "../adapters/valkey/record.ts";
import { floorTo } from "../core/tiles/window.ts";
import { type RepairPorts, repairPass } from "../functions/shared/repair/repair.ts";
import { openStore } from "../test/support/store.ts";
import { startValkey } from "../test/support/valkey.ts";
import { writeArchiveFile } from "./archive-file.ts";
import type { Benchmark } from "./benchmark.ts";
import { aggregatePlan as plan } from "./definitions.ts";
import { seededRandom, transaction } from "./workload.ts";

const HOUR_MS = 3_600_000;
const [stream] = plan.streams;
const FOLDER = `tenant=default/stream=${stream.name}`;
const ROWS_PER_OBJECT = 500;
const LATE_HOUR = 7;
const isLateHour = (hour: number): boolean => hour === LATE_HOUR;

export const benchmark: Benchmark = {
  title: "Repair: late events of 3 entities each, beside a day's compacted archive and an hour of raw objects",
  async run({ quick, signal, say }) {
    const perHour = quick ? 10_000 : 416_667;
    const rawRows = quick ? 5_000 : 100_000;
    const folder = mkdtempSync(join(tmpdir(), "freshet-bench-repair-"));
    const valkey = await startValkey();
    const sealMs = floorTo(Date.now(), HOUR_MS) - HOUR_MS;
    const dayMs = sealMs - 30 * HOUR_MS;
    const keys: string[] = [];
    const mirror = new ArchiveMirror({ s3: listing(keys), bucket: "archive", folder });
    const keep = (key: string, bytes: Buffer) => {
      mkdirSync(dirname(mirror.path(key)), { recursive: true });
      writeFileSync(mirror.path(key), bytes);
      keys.push(key);
    };
    const single: number[] = [];
    const many: number[] = [];
    try {
      for (let hour = 0; hour < 24; hour++) {
        signal.throwIfAborted();
        const fromMs = dayMs + hour * HOUR_MS;
        const key = `compacted/${FOLDER}/${hourPath(fromMs)}/${randomUUID()}.0.parquet`;
        const path = mirror.path(key);
        mkdirSync(dirname(path), { recursive: true });
        // Hours that no late event lies in are listed and never opened: one file stands for all of them.
        if (hour === 0 || isLateHour(hour)) {
          await writeArchiveFile(plan, folder, path, perHour, { fromMs, toMs: fromMs + HOUR_MS });
        } else linkSync(mirror.path(keys[0]), path);
        keys.push(key);
      }
      say(`${24 * perHour} events are compacted`);
      const random = seededRandom(5);
      for (let from = 0; from < rawRows; from += ROWS_PER_OBJECT) {
        const rows = Array.from(
          { length: ROWS_PER_OBJECT },
          (_, i) =>
            lateRow(random, `raw-${from + i}`, sealMs - Math.floor(((from + i) / rawRows) * HOUR_MS), "applied").row,
        );
        keep(
          `raw/${FOLDER}/${hourPath(sealMs)}/${String(sealMs).padStart(13, "0")}-a-${randomUUID()}.ndjson.zst`,
          encodeArchive(rows),
        );
      }
      const store = await openStore(plan, valkey, sealMs);
      const ports = portsOf({ mirror, folder, store });
      const repair = async (name: string, count: number): Promise<number> => {
        const late = Array.from({ length: count }, (_, i) =>
          lateRow(random, `${name}-${i}`, dayMs + Math.floor((LATE_HOUR + random()) * HOUR_MS), "late"),
        );
        keep(
          `raw/${FOLDER}/${hourPath(sealMs)}/${String(sealMs).padStart(13, "0")}-b-${randomUUID()}.ndjson.zst`,
          encodeArchive(late.map(({ row }) => row)),
        );
        const items = late.flatMap(itemsOf);
        const startedMs = performance.now();
        const { repaired } = await repairPass(ports, stream, items);
        if (repaired !== items.length) throw new Error(`${repaired} of ${items.length} were repaired`);
        return performance.now() - startedMs;
      };
      await repair("warm", 1);
      for (let round = 0; round < (quick ? 3 : 10); round++) {
        signal.throwIfAborted();
        single.push(await repair(`one-${round}`, 1));
        many.push((await repair(`many-${round}`, 160)) / 160);
        say(
          `round ${round + 1}: ${Math.round(single[round])} ms for one event, ${many[round].toFixed(1)} ms for each of 160`,
        );
      }
      await store.connection.close();
    } finally {
      await valkey.stop();
      rmSync(folder, { recursive: true, force: true });
    }
    const note = `${(24 * perHour).toLocaleString("en-US")} events in 24 compacted hours and ${rawRows.toLocaleString("en-US")} in ${Math.ceil(rawRows / ROWS_PER_OBJECT)} raw objects, all of them fetched already; S3's own time for the listing and the repaired row is not in it.`;
    return [
      {
        what: "one late event, all tiles of its 3 entities",
        unit: "ms",
        rounds: single,
        target: { atMost: 500 },
        note,
      },
      { what: "each of 160 late events of one hour, together", unit: "ms", rounds: many },
    ];
  },
};

function lateRow(random: () => number, id: string, timeMs: number, fate: "late" | "applied") {
  const fields = {
    ...Object.fromEntries(Object.keys(stream.fields).map((name) => [name, null])),
    ...transaction(random, id, timeMs),
  };
  const prepared = packer.prepare("default", id, timeMs, fields as never);
  const visibleMs = fate === "late" ? null : timeMs + 900;
  const row: ArchiveRow = {
    ...{
      tenant: "default",
      stream: stream.name,
      eventId: id,
      eventTimeMs: timeMs,
      identity: prepared.identity,
      fields,
    },
    ...{ arrivalMs: timeMs + 30 * HOUR_MS, shard: "shard-1", sequence: "1", subSequence: 0 },
    fates: prepared.updates.map((update) => ({ entity: update.entity, id: update.id, fate, visibleMs })),
  };
  return { row, prepared };
}
const packer = new RecordPacker(plan, stream.name);

const itemsOf = ({ row, prepared }: { row: ArchiveRow; prepared: PreparedEvent }): PendingItem[] =>
  prepared.updates.map(({ entity, id, baseIndex }) => ({
    ...{ tenant: "default", entity, id, stream: stream.name, baseIndex, identity: prepared.identity },
    ...{ eventId: row.eventId!, eventTimeMs: row.eventTimeMs!, arrivalMs: row.arrivalMs, attempts: 0, notBeforeMs: 0 },
  }));

function portsOf({
  mirror,
  folder,
  store,
}: {
  mirror: ArchiveMirror;
  folder: string;
  store: Awaited<ReturnType<typeof openStore>>;
}): RepairPorts {
  return {
    ...{ plan, applier: store.applier, clock: Date.now },
    tokens: (keys) => readMendTokens(store.connection, keys),
    holder: async () => null,
    find: (of) => findEvents({ plan, mirror, duck: { folder, memoryMb: 1_024 } }, of),
    archiveFromMs: async () => 0,
    archive: {
      write: async (rows) => {
        encodeArchive(rows);
        return [];
      },
    },
    late: { put: async () => {} },
    work: { remove: async () => {}, putOff: async () => {} },
    onFailure: (_, error) => {
      throw error;
    },
  };
}

/** S3 as far as a listing: the mirror has every object. */
function listing(keys: readonly string[]): any {
  return {
    send: async (command: unknown) => {
      if (command instanceof GetObjectCommand) throw new Error("everything is in the mirror");
      const { Prefix, StartAfter = "" } = (command as ListObjectsV2Command).input;
      const found = keys.filter((key) => key.startsWith(Prefix!) && key > StartAfter).sort();
      return { Contents: found.map((Key) => ({ Key, Size: 1 })) };
    },
  };
}
