/** One tenant's archive of one stream without what is erased: raw objects first, then compacted ones, as compaction moves rows. */
import { join } from "node:path";
import { type ErasedEntity, rowEraser } from "../../core/erasure.ts";
import type { Plan, Stream } from "../../core/plan.ts";
import { readCompactionLog, replacedBy } from "../offline/compaction-log.ts";
import type { DuckSession } from "../offline/duckdb.ts";
import type { ArchiveMirror } from "../offline/mirror.ts";
import { tenantPartition } from "../s3/object-path.ts";
import { eraseParquet, eraseRaw, suspectSql } from "./archive-rows.ts";
import { type ObjectsPort, type Rewritten, rewriteObjects, type WalkOptions } from "./rewrite.ts";

/** By the field that other streams name an event by: event ids that went, each with the event's identity. */
export type ErasedEvents = Map<string, Map<string, string>>;

export interface StreamErasure {
  readonly plan: Plan;
  readonly tenant: string;
  readonly stream: Stream;
  readonly subjects: readonly ErasedEntity[];
  readonly beforeMs: number;
  /** Grows by what is found. */
  readonly events: ErasedEvents;
  readonly objects: ObjectsPort;
  readonly mirror: ArchiveMirror;
  readonly session: DuckSession;
  readonly folder: string;
  /** Keeps what was found: once a row is rid of its event's id, nothing tells it any more. */
  readonly keepEvents: () => Promise<void>;
}

/** Event ids of which streams have to be remembered: those that a field of another stream is called after. */
const referencedStreams = (plan: Plan): Stream[] =>
  plan.streams.filter(({ name, eventId }) =>
    plan.streams.some((other) => other.name !== name && eventId in other.fields),
  );

/** Streams that an erasure has to look through, those first that others name events of. */
export function erasableStreams(plan: Plan, subjects: readonly ErasedEntity[]): Stream[] {
  const keys = plan.entities.filter(({ name }) => subjects.some(({ entity }) => entity === name));
  const own = plan.streams.filter(({ fields }) => keys.some(({ joinKey }) => joinKey in fields));
  const referenced = referencedStreams(plan).filter((stream) => own.includes(stream));
  const referring = plan.streams.filter((stream) =>
    referenced.some(({ name, eventId }) => name !== stream.name && eventId in stream.fields),
  );
  // Once more where both is true: the first walk may have passed rows whose events it found later.
  return [
    ...referenced,
    ...own.filter((stream) => !referenced.includes(stream) && !referring.includes(stream)),
    ...referring,
  ];
}

/** @returns false when time was up. @throws InfrastructureError `archive_unavailable`; FreshetError of DuckDB */
export async function eraseStream(
  erasure: StreamErasure,
  kind: "raw" | "compacted",
  walk: WalkOptions,
): Promise<boolean> {
  const { plan, stream, subjects, beforeMs, events, mirror, session, tenant, objects, folder } = erasure;
  const isReferenced = referencedStreams(plan).includes(stream);
  const onErased = (row: { eventId: string | null; identity: string | null }) => {
    if (!isReferenced || row.eventId === null || row.identity === null || row.eventId.startsWith("erased:")) return;
    const known = events.get(stream.eventId) ?? new Map<string, string>();
    events.set(stream.eventId, known.set(row.eventId, row.identity));
  };
  const erase = rowEraser(plan, stream, { subjects, beforeMs, events });
  const parquet = async (body: Buffer): Promise<Rewritten | null> => {
    const suspects = suspectSql(stream, subjects, suspectValues(erasure));
    return eraseParquet(body, { session, stream, tenant, suspects, erase, onErased, folder: join(folder, "parquet") });
  };
  const partition = tenantPartition(tenant);
  const log = await readCompactionLog(mirror, partition, stream.name);
  const rewriting = {
    prefix: `${kind}/tenant=${partition}/stream=${stream.name}/`,
    rewrite: async (body: Buffer) =>
      kind === "raw" ? eraseRaw(body, erase, onErased) : oneAtATime(() => parquet(body)),
    replaced: replacedBy(log),
    beforeWriting: erasure.keepEvents,
  };
  return rewriteObjects(objects, rewriting, walk);
}

/** Ids by the field that may hold them. */
function suspectValues({ plan, stream, subjects, events }: StreamErasure): Map<string, Set<string>> {
  const values = new Map<string, Set<string>>();
  for (const { entity, id } of subjects) {
    const { joinKey } = plan.entities.find(({ name }) => name === entity)!;
    values.set(joinKey, (values.get(joinKey) ?? new Set()).add(id));
  }
  for (const [field, ids] of events) if (field !== stream.eventId) values.set(field, new Set(ids.keys()));
  return values;
}

/** A session runs one statement after the other. */
let last: Promise<unknown> = Promise.resolve();
function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const run = last.then(work, work);
  last = run.catch(() => {});
  return run;
}
