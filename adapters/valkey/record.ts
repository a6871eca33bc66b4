/** Prepares events for the store's function: which entities they touch, and the record each of those gets. */

import { compileGroups, entityId, type GroupReader, identityText, VALUE_LIMIT } from "../../core/event.ts";
import type { Contribution } from "../../core/operators/accumulators.ts";
import { bucketOfValue } from "../../core/operators/buckets.ts";
import { squareWide } from "../../core/operators/wide.ts";
import type { Plan } from "../../core/plan.ts";
import type { Fields } from "../../core/where.ts";
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
  /** The record's bytes are `length` from `start` on, in a buffer that many records share: one for each would cost more. */
  readonly bytes: Buffer;
  readonly start: number;
  readonly length: number;
}

export interface PreparedEvent {
  /** 16 hex digits. */
  readonly identity: string;
  readonly updates: readonly EntityUpdate[];
}

/** The largest record: 32 channels with numbers, squares, a hash, a bucket and a text of `VALUE_LIMIT` UTF-16 units each. */
const MAX_RECORD = 16 + 32 * (8 + 16 + 4 + 2 + 3 + 3 * VALUE_LIMIT);
/** Shared by some thousand records; given up as soon as none of their events is needed any more. */
const SHARED_BYTES = 1 << 18;
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
  private bytes = Buffer.alloc(0);
  private end = 0;
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

  /**
   * @param known the event's identity, where it is known: its id may have been erased since
   * @throws RecordError `number_too_large`, `value_too_long`, `key_too_long`
   */
  prepare(tenant: string, eventId: string, eventTimeMs: number, fields: Fields, known?: string): PreparedEvent {
    const identity = known ?? hash64(identityText(tenant, this.stream, eventTimeMs, eventId));
    const updates: EntityUpdate[] = [];
    for (const reader of this.groups) {
      const id = entityId(fields, reader.joinKey);
      if (id === null) continue;
      const { bucket, key } = this.place(reader, tenant, id);
      const { bytes, start } = this.room();
      this.end = packRecord(reader, identity, eventTimeMs, fields, bytes, start);
      updates.push({
        entity: reader.group.entity,
        id,
        groupId: reader.group.id,
        bucket,
        key,
        baseIndex: Math.floor(eventTimeMs / reader.group.baseMs),
        bytes,
        start,
        length: this.end - start,
      });
    }
    return { identity, updates };
  }

  private room(): { bytes: Buffer; start: number } {
    if (this.end + MAX_RECORD > this.bytes.length) {
      this.bytes = Buffer.allocUnsafeSlow(SHARED_BYTES + MAX_RECORD);
      this.end = 0;
    }
    return { bytes: this.bytes, start: this.end };
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

/** The record that `function/08-apply.lua` reads; its header describes the bytes. @returns where it ends */
function packRecord(
  { group, channels, needs }: GroupReader & { needs: ReturnType<typeof channelNeeds>[] },
  identity: string,
  timeMs: number,
  fields: Fields,
  into: Buffer,
  start: number,
): number {
  const index = Math.floor(timeMs / group.baseMs);
  into.write(identity, start, "hex");
  into.writeUInt32LE(timeMs - index * group.baseMs, start + 8);
  let mask = 0;
  let at = start + 16;
  for (let c = 0; c < channels.length; c++) {
    const contribution = channels[c](fields);
    if (contribution === null) continue;
    mask = (mask | (1 << c)) >>> 0;
    at = packContribution(contribution, needs[c], into, at);
  }
  into.writeUInt32LE(mask, start + 12);
  return at;
}

function packContribution(
  contribution: Contribution,
  needs: ReturnType<typeof channelNeeds>,
  into: Buffer,
  start: number,
): number {
  let at = start;
  if (needs.value) at = into.writeDoubleLE((contribution.value as number) + 0, at);
  if (needs.squares) {
    const { hi, lo } = squareWide(contribution.value as number);
    at = into.writeDoubleLE(hi, at);
    at = into.writeDoubleLE(lo, at);
  }
  if (needs.hash) at = into.writeUInt32BE(contribution.hash, at);
  if (needs.bucket) at = into.writeUInt16LE(bucketOfValue(contribution.value as number), at);
  if (needs.object) {
    const value = encodeScalar(contribution.value);
    at = into.writeUInt16LE(value.length, at);
    at += value.copy(into, at);
  }
  return at;
}
