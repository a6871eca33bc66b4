/** Prepares events for the store's function: which entities they touch, and the record each of those gets. */
import { hash as digest } from "node:crypto";
import type { Contribution } from "../../core/accumulators.ts";
import { compileGroups, entityId, type GroupReader, identityText, VALUE_LIMIT } from "../../core/event.ts";
import type { Plan } from "../../core/plan.ts";
import type { Fields } from "../../core/where.ts";
import { squareWide } from "../../core/wide.ts";
import { hash64 } from "../hash.ts";
import { channelNeeds } from "./function-source.ts";
import { bucketOf, encodeScalar, entityKey } from "./layout.ts";

/** One entity's share of one event. */
export interface EntityUpdate {
  readonly entity: string;
  readonly id: string;
  readonly groupId: number;
  readonly bucket: number;
  readonly key: string;
  readonly baseIndex: number;
  readonly record: Buffer;
}

export interface PreparedEvent {
  /** 8 bytes. */
  readonly identity: Buffer;
  readonly updates: readonly EntityUpdate[];
}

/** Holds the largest record: 32 channels with numbers, squares, a hash and a text of `VALUE_LIMIT` UTF-16 units each. */
const SCRATCH = Buffer.alloc(16 + 32 * (8 + 16 + 4 + 3 + 3 * VALUE_LIMIT));
/** Entities whose keys are remembered for a tenant, about 30 MB; and tenants. */
const CACHE_LIMIT = 200_000;
const TENANT_LIMIT = 16;

interface Place {
  readonly bucket: number;
  readonly key: string;
}

/** Compiled for one stream; keeps the keys of entities that it has seen, since hashing them costs more than finding them. */
export class RecordPacker {
  private readonly stream: string;
  private readonly groups: readonly (GroupReader & {
    needs: ReturnType<typeof channelNeeds>[];
    places: Map<string, Map<string, Place>>;
  })[];

  constructor(plan: Plan, stream: string) {
    this.stream = stream;
    this.groups = compileGroups(plan, stream, hash64).map((reader) => ({
      ...reader,
      needs: reader.group.channels.map((_, index) => channelNeeds(reader.group, index)),
      places: new Map(),
    }));
  }

  /** @throws RecordError `number_too_large`, `value_too_long`, `key_too_long` */
  prepare(tenant: string, eventId: string, eventTimeMs: number, fields: Fields): PreparedEvent {
    const identity = digest("sha256", identityText(tenant, this.stream, eventTimeMs, eventId), "buffer").subarray(0, 8);
    const updates: EntityUpdate[] = [];
    for (const reader of this.groups) {
      const id = entityId(fields, reader.joinKey);
      if (id === null) continue;
      const { bucket, key } = this.place(reader, tenant, id);
      updates.push({
        entity: reader.group.entity,
        id,
        groupId: reader.group.id,
        bucket,
        key,
        baseIndex: Math.floor(eventTimeMs / reader.group.baseMs),
        record: packRecord(reader, identity, eventTimeMs, fields),
      });
    }
    return { identity, updates };
  }

  private place(
    reader: { group: GroupReader["group"]; places: Map<string, Map<string, Place>> },
    tenant: string,
    id: string,
  ): Place {
    let places = reader.places.get(tenant);
    if (!places || places.size >= CACHE_LIMIT) {
      if (reader.places.size >= TENANT_LIMIT) reader.places.clear();
      places = new Map();
      reader.places.set(tenant, places);
    }
    let place = places.get(id);
    if (!place) {
      const bucket = bucketOf(tenant, reader.group.entity, id);
      place = { bucket, key: entityKey(bucket, tenant, reader.group.entity, reader.group.stream, id) };
      places.set(id, place);
    }
    return place;
  }
}

/** The record that `store-function.lua` reads; its header describes the bytes. */
function packRecord(
  { group, channels, needs }: GroupReader & { needs: ReturnType<typeof channelNeeds>[] },
  identity: Buffer,
  timeMs: number,
  fields: Fields,
): Buffer {
  const index = Math.floor(timeMs / group.baseMs);
  SCRATCH.set(identity, 0);
  SCRATCH.writeUInt32LE(timeMs - index * group.baseMs, 8);
  let mask = 0;
  let at = 16;
  for (let c = 0; c < channels.length; c++) {
    const contribution = channels[c](fields);
    if (contribution === null) continue;
    mask = (mask | (1 << c)) >>> 0;
    at = packContribution(contribution, needs[c], at);
  }
  SCRATCH.writeUInt32LE(mask, 12);
  return Buffer.from(SCRATCH.subarray(0, at));
}

function packContribution(contribution: Contribution, needs: ReturnType<typeof channelNeeds>, start: number): number {
  let at = start;
  if (needs.value) at = SCRATCH.writeDoubleLE((contribution.value as number) + 0, at);
  if (needs.squares) {
    const { hi, lo } = squareWide(contribution.value as number);
    at = SCRATCH.writeDoubleLE(hi, at);
    at = SCRATCH.writeDoubleLE(lo, at);
  }
  if (needs.hash) at = SCRATCH.writeUInt32BE(contribution.hash, at);
  if (needs.object) {
    const value = encodeScalar(contribution.value);
    at = SCRATCH.writeUInt16LE(value.length, at);
    at += value.copy(SCRATCH, at);
  }
  return at;
}
