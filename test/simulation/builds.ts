/** Puts beside the specification: below the seal an entity is what was built, and nothing that counted is gone. */

import { encodeArchive } from "../../adapters/archive/archive-format.ts";
import type { BuildProgress, BuildRecord } from "../../adapters/control-table/build-progress.ts";
import type { BuiltEntity } from "../../adapters/offline/build.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import type { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import { bucketOf, entityKey, parseEntityKey } from "../../adapters/valkey/layout.ts";
import { encodePut, type PutCall, readPutFates } from "../../adapters/valkey/put.ts";
import { readReply } from "../../adapters/valkey/replies.ts";
import type { Group, Plan } from "../../core/plan.ts";
import { fakeSession, type ListedArchive } from "./archive-model.ts";
import { SimulatedConnection, type SimulatedServer, type Watched } from "./connection.ts";
import { watchErase } from "./copies.ts";
import type { SimulatedEvent } from "./events.ts";
import { STREAM } from "./plans.ts";
import { watchMend } from "./repairs.ts";
import type { Actor, Scheduler } from "./scheduler.ts";
import type { SideStores } from "./side-stores.ts";

/** What was built for an entity, by its key and the bytes that a put of it carries. */
export type Built = Map<string, readonly SimulatedEvent[]>;

const HEADER = { sealIndex: 0, generation: 0, whole: true, fromIndex: 0, newestMs: null };
const HEADER_BYTES = encodePut({ id: 0 } as Group, HEADER, []).length;
const nameOf = (key: string, blob: Buffer): string => `${key} ${blob.toString("latin1", HEADER_BYTES)}`;

/** Every repair and put of a simulated connection is watched, whoever makes the applier. Once, before any run. */
export function watchAppliers(): void {
  const { put, mend, erase } = StoreApplier.prototype;
  const watching = <A extends unknown[], R>(
    method: (...args: A) => R,
    watch: (connection: SimulatedConnection, ...args: A) => Watched,
  ) =>
    function (this: StoreApplier, ...args: A): R {
      const { connection } = this as unknown as { connection: unknown };
      if (connection instanceof SimulatedConnection) connection.watch(watch(connection, ...args));
      return method.apply(this, args);
    };
  StoreApplier.prototype.put = watching(put, ({ server }, calls) => watchPut(server, calls));
  StoreApplier.prototype.mend = watching(mend, ({ server, plan }, calls) => watchMend(server, plan!, calls));
  StoreApplier.prototype.erase = watching(erase, ({ server }, calls) => watchErase(server, calls));
  (DuckSession as { open: unknown }).open = async () => fakeSession();
}

function watchPut(server: SimulatedServer, calls: readonly PutCall[]): Watched {
  const { spec } = server;
  return {
    calls: calls.map((_, c) => c),
    throws: () => false,
    settled: (c, answer) => {
      const { puts } = calls[c];
      const fates = readPutFates(readReply(answer).outcomes, puts.length);
      for (const [k, { key, blob }] of puts.entries()) {
        if (fates[k] !== "put") continue;
        const [groupId, seal] = [blob[0], blob.readUInt32LE(1)];
        const { tenant, entity, id } = parseEntityKey(Buffer.from(key))!;
        if (seal !== spec.sealOf(bucketOf(tenant, entity, id), groupId)) {
          server.violated(`${key} is put for seal ${seal}, which is not its bucket's`);
        }
        // One that no window needs any more has no bytes, nor has one that nobody has sent anything for.
        const events = spec.built.get(nameOf(key, blob)) ?? (blob.length === HEADER_BYTES ? [] : undefined);
        if (events === undefined) server.violated(`${key} is put with what nobody has built`);
        else spec.put({ tenant, entity, id, groupId, key }, seal, events, (what) => server.violated(what));
      }
    },
  };
}

/** The archive as a build of a plan lists it, and as one that repeats repairs reads it. */
export function mirrorOf(
  scheduler: Scheduler,
  side: SideStores,
  built: Built,
  plan: Plan,
  actor: Actor,
): ArchiveMirror & ListedArchive {
  const listed: ListedArchive = {
    plan,
    list: () => scheduler.operation(actor, "list archive", () => [...side.objects.values()]),
    eventOf: (identity) => side.eventOf(identity),
    built: (group: Group, { tenant, id, bucket, fields }: BuiltEntity, events) => {
      const key = entityKey(bucket, tenant, group.entity, STREAM, id);
      built.set(nameOf(key, encodePut(group, HEADER, fields)), events);
    },
  };
  const reading = {
    begin: () => {},
    list: (prefix?: string) =>
      prefix === undefined
        ? listed.list()
        : scheduler.operation(actor, "list archive", () =>
            [...side.objects.keys()].filter((key) => key.startsWith(prefix)).map((key) => ({ key })),
          ),
    get: (key: string) => scheduler.operation(actor, "get object", () => encodeArchive(side.objects.get(key) ?? [])),
  };
  return { ...listed, ...reading } as unknown as ArchiveMirror & ListedArchive;
}

/** How far builds are: as the control table keeps it, with its condition. */
export class MemoryProgress {
  private record: BuildRecord | null = null;

  of(scheduler: Scheduler, actor: Actor): BuildProgress {
    const ask = <T>(work: () => T): Promise<T> => scheduler.operation(actor, "table build", work);
    return {
      get: () => ask(() => this.record),
      imports: () => ask(() => 0),
      rebuiltMs: () => ask(() => 0),
      put: (_stream: string, record: BuildRecord, replaces: string | null = null) =>
        ask(() => {
          if (this.record !== null && this.record.id !== record.id && this.record.id !== replaces) return false;
          this.record = structuredClone(record);
          return true;
        }),
    } as unknown as BuildProgress;
  }
}
