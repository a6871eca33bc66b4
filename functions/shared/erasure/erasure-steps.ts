/** Everything that may hold an entity, in the order in which an erasure goes through it. Each step may be ended anywhere and done again. */
import { join } from "node:path";
import { eraseRounds } from "../../../adapters/erasure/bulk-rounds.ts";
import { type ErasedEvents, erasableStreams, eraseStream } from "../../../adapters/erasure/erase-archive.ts";
import type { Erasure } from "../../../adapters/erasure/erasures.ts";
import { type ItemsPort, removeItem, removePartition } from "../../../adapters/erasure/items.ts";
import { bytesName, eraseQuarantined, eraseScores, eraseValues } from "../../../adapters/erasure/other-rows.ts";
import { holdsEntity } from "../../../adapters/erasure/outputs.ts";
import {
  getObject,
  type ObjectsPort,
  putObject,
  type Rewriting,
  removeObject,
  rewriteObjects,
  type WalkOptions,
} from "../../../adapters/erasure/rewrite.ts";
import { removeSnapshots } from "../../../adapters/erasure/snapshot-items.ts";
import { lateKey } from "../../../adapters/late-queue/late-queue.ts";
import { readLogOf, replacedBy } from "../../../adapters/offline/compaction-log.ts";
import type { DuckOptions, DuckSession } from "../../../adapters/offline/duckdb.ts";
import type { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { VALUES_PREFIX } from "../../../adapters/pushed/values-format.ts";
import { quarantinePartition } from "../../../adapters/quarantine/quarantine.ts";
import { tenantPartition, UNATTRIBUTED } from "../../../adapters/s3/object-path.ts";
import type { BulkStore } from "../../../adapters/snapshot/bulk-store.ts";
import type { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { eraseCall } from "../../../adapters/valkey/erase.ts";
import type { ErasedEntity } from "../../../core/erasure.ts";
import type { Plan } from "../../../core/plan.ts";

export interface ErasurePorts {
  readonly plan: Plan;
  /** Under the epoch that stands, for a store that may be being restored. */
  readonly applier: () => Promise<StoreApplier>;
  readonly late: ItemsPort;
  readonly snapshots: ItemsPort;
  /** Of bulk snapshots. */
  readonly rounds: { readonly snapshots: BulkStore; readonly objects: ObjectsPort };
  readonly archive: ObjectsPort;
  readonly mirror: ArchiveMirror;
  readonly quarantine: ObjectsPort;
  readonly quarantineIndex: ItemsPort;
  readonly training: ObjectsPort;
  readonly duck: DuckOptions;
}

/** An erasure while its ids are known. */
export type OpenErasure = Erasure & { readonly subjects: readonly ErasedEntity[] };

export interface ErasureWork {
  readonly ports: ErasurePorts;
  readonly erasure: OpenErasure;
  readonly session: DuckSession;
  readonly events: ErasedEvents;
  /** Files that hold it; grows. */
  readonly holding: Set<string>;
}

export interface ErasureStep {
  readonly name: string;
  /** @returns false when time was up first: it goes on after the last object that `onStep` was told of */
  readonly run: (work: ErasureWork, walk: WalkOptions) => Promise<boolean>;
}

/** Told as one step: what has no place to go on from. */
const whole =
  (run: (work: ErasureWork) => Promise<number>): ErasureStep["run"] =>
  async (work, { onStep }) => {
    const rows = await run(work);
    await onStep?.("", { looked: 1, rewritten: rows > 0 ? 1 : 0, rows, unreadable: [] });
    return true;
  };

export function stepsOf(plan: Plan, { subjects }: OpenErasure): ErasureStep[] {
  const archive = erasableStreams(plan, subjects).flatMap((stream) =>
    (["raw", "compacted"] as const).map((kind): ErasureStep => {
      const run: ErasureStep["run"] = ({ ports, erasure, session, events }, walk) => {
        const { tenant, beforeMs } = erasure;
        const { archive: objects, mirror, duck } = ports;
        const keepEvents = () => putEvents(ports, erasure, events);
        const what = { plan, tenant, stream, subjects, beforeMs, events, objects, mirror, session };
        return eraseStream({ ...what, folder: duck.folder, keepEvents }, kind, walk);
      };
      return { name: `${kind} ${stream.name}`, run };
    }),
  );
  return [
    { name: "online", run: whole((work) => eraseOnline(work, false)) },
    { name: "late", run: whole(eraseLate) },
    { name: "snapshots", run: whole(eraseSnapshots) },
    { name: "bulk snapshots", run: ({ ports, erasure }, walk) => eraseRounds(ports.rounds, erasure, walk) },
    ...archive,
    { name: "values", run: walkValues },
    { name: "inference-log", run: walkScores },
    { name: "quarantine", run: walkQuarantine },
    { name: "historical", run: (work, walk) => lookAtFiles(work, work.ports.archive, historical(work), walk) },
    { name: "training-sets", run: lookAtTrainingSets },
    // Last: from here on, what is listed anew holds none of it, and may be put.
    { name: "online again", run: whole((work) => eraseOnline(work, true)) },
  ];
}

/** @param clean the archive holds nothing of it any more */
export async function eraseOnline(
  { ports, erasure }: Pick<ErasureWork, "erasure"> & { readonly ports: Pick<ErasurePorts, "plan" | "applier"> },
  clean: boolean,
): Promise<number> {
  const { tenant, subjects, beforeMs, block } = erasure;
  const keepUntilMs = block ? null : guardUntilMs(erasure);
  const applier = await ports.applier();
  const calls = subjects.map((subject) =>
    eraseCall(ports.plan, { tenant, ...subject }, { beforeMs, keepUntilMs, clean }),
  );
  const gone = await applier.erase(calls);
  return gone.flat().reduce((sum, fields) => sum + fields, 0);
}

/** Beyond everything that may bring it back: what the broker and bulk snapshots keep, with a margin. */
export const GUARD_MS = 40 * 86_400_000;
export const guardUntilMs = ({ requestedMs }: Pick<Erasure, "requestedMs">): number => requestedMs + GUARD_MS;

/** Not what has happened since to who came back: late events of that wait here like anybody's. */
async function eraseLate({ ports, erasure }: ErasureWork): Promise<number> {
  const { tenant, subjects, beforeMs } = erasure;
  let rows = 0;
  for (const { entity, id } of subjects) {
    for (const { name: stream, baseMs } of ports.plan.streams) {
      const first = lateKey({ tenant, entity, id, stream, baseIndex: Math.floor(beforeMs / baseMs), identity: "" });
      rows += await removePartition(ports.late, first.pk, first.sk);
    }
  }
  return rows;
}

async function eraseSnapshots({ ports, erasure }: ErasureWork): Promise<number> {
  const { tenant, subjects, beforeMs } = erasure;
  let rows = 0;
  for (const subject of subjects) rows += await removeSnapshots(ports.snapshots, { tenant, ...subject }, beforeMs);
  return rows;
}

async function walkValues({ ports, erasure }: ErasureWork, walk: WalkOptions): Promise<boolean> {
  const { subjects, beforeMs, tenant } = erasure;
  const partition = tenantPartition(tenant);
  const replaced = new Set<string>();
  const views = await ports.mirror.folders(`${VALUES_PREFIX}tenant=${partition}/`);
  for (const view of views) {
    const log = await readLogOf(ports.mirror, `compaction/tenant=${partition}/${view}/`);
    for (const key of replacedBy(log)) replaced.add(key);
  }
  const rewrite = async (body: Buffer) => eraseValues(body, subjects, beforeMs);
  return rewriteObjects(ports.archive, { prefix: `${VALUES_PREFIX}tenant=${partition}/`, rewrite, replaced }, walk);
}

async function walkScores({ ports, erasure, events }: ErasureWork, walk: WalkOptions): Promise<boolean> {
  const { subjects, beforeMs, tenant } = erasure;
  const isErasedEvent = (eventId: string) => [...events.values()].some((ids) => ids.has(eventId));
  const rewrite = (body: Buffer) => eraseScores(body, { plan: ports.plan, subjects, beforeMs, isErasedEvent });
  return rewriteObjects(ports.archive, { prefix: `inference-log/tenant=${tenantPartition(tenant)}/`, rewrite }, walk);
}

export const quarantinePrefix = (partition: string): string => `quarantine/tenant=${partition}/`;

/** Records that no tenant answers for are its own where they name the tenant, too. */
export const refusedOf = ({ tenant, subjects, beforeMs }: OpenErasure, partition: string) => ({
  beforeMs,
  isErased: (bytes: Buffer): boolean =>
    bytesName(
      bytes,
      subjects.map(({ id }) => id),
    ) &&
    (partition !== UNATTRIBUTED || bytesName(bytes, [tenant])),
});

async function walkQuarantine({ ports, erasure }: ErasureWork, walk: WalkOptions): Promise<boolean> {
  const { tenant } = erasure;
  const gone: { id: string; stream: string; of: string }[] = [];
  const rewriting = (of: string): Rewriting => ({
    prefix: quarantinePrefix(of),
    inPlace: true,
    rewrite: async (body) => eraseQuarantined(body, refusedOf(erasure, of), (line) => gone.push({ ...line, of })),
    // The index first: an item that leads nowhere would fail a replay.
    beforeWriting: async () => {
      for (const { id, stream, of: partition } of gone.splice(0)) {
        await removeItem(ports.quarantineIndex, quarantinePartition(partition, stream, id), id);
      }
    },
  });
  const partition = tenantPartition(tenant);
  const { after } = walk;
  const inOwn = after === undefined || after.startsWith(quarantinePrefix(partition));
  if (inOwn && !(await rewriteObjects(ports.quarantine, rewriting(partition), walk))) return false;
  const others = { ...walk, after: inOwn ? undefined : after };
  return rewriteObjects(ports.quarantine, rewriting(UNATTRIBUTED), others);
}

const historical = ({ erasure }: ErasureWork) => `historical/tenant=${tenantPartition(erasure.tenant)}/`;

/** Those of all tenants lie side by side: whose a set is its manifest says. One without may be anybody's, and is looked at. */
function lookAtTrainingSets(work: ErasureWork, walk: WalkOptions): Promise<boolean> {
  const { ports, erasure } = work;
  const owners = new Map<string, Promise<string | null>>();
  const concerns = async (key: string) => {
    const manifest = `${key.slice(0, key.lastIndexOf("/"))}/manifest.json`;
    const owner = owners.get(manifest) ?? getObject(ports.training, manifest).then(tenantIn);
    owners.set(manifest, owner);
    return ((await owner) ?? erasure.tenant) === erasure.tenant;
  };
  return lookAtFiles(work, ports.training, "training-sets/", walk, concerns);
}

function tenantIn(manifest: Buffer | null): string | null {
  try {
    const { tenant } = JSON.parse(manifest?.toString("utf8") ?? "{}");
    return typeof tenant === "string" ? tenant : null;
  } catch {
    return null;
  }
}

function lookAtFiles(
  work: ErasureWork,
  port: ObjectsPort,
  prefix: string,
  walk: WalkOptions,
  concerns?: (key: string) => Promise<boolean>,
): Promise<boolean> {
  const { ports, erasure, session, holding } = work;
  const keys = new Map<string, Set<string>>();
  for (const { entity, id } of erasure.subjects) {
    const { joinKey } = ports.plan.entities.find(({ name }) => name === entity)!;
    keys.set(joinKey, (keys.get(joinKey) ?? new Set()).add(id));
  }
  let last: Promise<unknown> = Promise.resolve();
  const rewrite = async (body: Buffer, key: string) => {
    // A session runs one statement after the other.
    const look = last.then(() => holdsEntity(body, key, { session, folder: join(ports.duck.folder, "files"), keys }));
    last = look.catch(() => {});
    return look.then((holds) => {
      if (holds) holding.add(`s3://${port.bucket}/${key}`);
      return null;
    });
  };
  return rewriteObjects(port, { prefix, concerns, rewrite }, walk);
}

const eventsKey = ({ tenant, id }: Pick<Erasure, "tenant" | "id">) => `erasures/tenant=${tenant}/${id}.json`;

export async function getEvents({ archive }: Pick<ErasurePorts, "archive">, erasure: Erasure): Promise<ErasedEvents> {
  const body = await getObject(archive, eventsKey(erasure));
  const plain: Record<string, Record<string, string>> = body === null ? {} : JSON.parse(body.toString("utf8"));
  return new Map(Object.entries(plain).map(([field, ids]) => [field, new Map(Object.entries(ids))]));
}

async function putEvents({ archive }: ErasurePorts, erasure: Erasure, events: ErasedEvents): Promise<void> {
  const plain = Object.fromEntries([...events].map(([field, ids]) => [field, Object.fromEntries(ids)]));
  await putObject(archive, eventsKey(erasure), Buffer.from(JSON.stringify(plain)));
}

export const forgetEvents = ({ archive }: Pick<ErasurePorts, "archive">, erasure: Erasure): Promise<void> =>
  removeObject(archive, eventsKey(erasure));
