/** The writing half of a bulk build: puts entities as they are built, and takes each bucket for complete once all of it is put. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BuiltEntity } from "../../../adapters/offline/build.ts";
import type { StoreApplier } from "../../../adapters/valkey/applier.ts";
import type { ControlHashes } from "../../../adapters/valkey/control.ts";
import { entityKey } from "../../../adapters/valkey/layout.ts";
import { type EntityPut, encodePut, type PutCall } from "../../../adapters/valkey/put.ts";
import { isObject } from "../../../core/operators/accumulators.ts";
import type { Group } from "../../../core/plan.ts";

/** One call: bounds the time for which the server answers nobody else to some ms. */
const ENTITIES_PER_CALL = 50;
const BYTES_PER_CALL = 64 * 1024;
/** One round trip. */
const ENTITIES_PER_TRIP = 500;
const BYTES_PER_TRIP = 2 * 1024 * 1024;
/** An entity that is held is folded further with each try; a failover takes somebody's help, and is not waited for. */
const HELD_TRIES = 20;
const HELD_DELAY_MS = 250;

export interface WriterTarget {
  readonly group: Group;
  readonly epoch: number;
  readonly sealMs: number;
  /** The store's clock (µs), taken before the archive was listed. */
  readonly generation: number;
  readonly listedUs: number;
  /** Event time at which the archive begins; 0 when it is whole. */
  readonly fromMs: number;
  /** Whether all tenants are built, so that a bucket that is done is complete. */
  readonly completes: boolean;
  /** Entities a second. */
  readonly ratePerS?: number;
}

/**
 * Why a build has to list the archive anew, or to wait. `moved`, by the seal. `held`: the store folds nothing. `older`: what stands in
 * the store claims to be newer. `anew`: what is done counts no more. `taken`: another build has begun.
 */
type Interruption = "moved" | "held" | "older" | "anew" | "taken";

export class Interrupted extends Error {
  readonly kind: Interruption;
  constructor(kind: Interruption) {
    super(kind);
    this.kind = kind;
  }
}

export class BucketWriter {
  private readonly applier: StoreApplier;
  private readonly controls: ControlHashes;
  private readonly target: WriterTarget;
  /** Of these, in order, those before `next` are put. */
  private readonly buckets: readonly number[];
  private next = 0;
  private calls: { bucket: number; puts: EntityPut[]; bytes: number }[] = [];
  private size = { entities: 0, bytes: 0 };
  private readonly startedMs = performance.now();
  /** Entities that were put so far. */
  entities = 0;

  /** @param buckets those that are built, ascending */
  constructor(
    ports: { readonly applier: StoreApplier; readonly controls: ControlHashes },
    target: WriterTarget,
    buckets: readonly number[],
  ) {
    this.applier = ports.applier;
    this.controls = ports.controls;
    this.target = target;
    this.buckets = buckets;
  }

  /**
   * Takes entities in the order of their buckets.
   * @returns buckets that are complete since the last time
   * @throws Interrupted when the seal has moved, or entities stay held
   */
  async add(entity: BuiltEntity): Promise<number[]> {
    const done = this.full() ? await this.flush(entity.bucket) : [];
    const { group, sealMs, generation, listedUs, fromMs } = this.target;
    const header = {
      sealIndex: sealMs / group.baseMs,
      generation,
      listedUs,
      whole: fromMs <= 0,
      fromIndex: Math.ceil(fromMs / group.baseMs),
      newestMs: entity.newestMs,
    };
    const key = entityKey(entity.bucket, entity.tenant, group.entity, group.stream, entity.id);
    const blob = encodePut(group, header, entity.fields);
    let call = this.calls[this.calls.length - 1];
    if (call?.bucket !== entity.bucket || call.puts.length >= ENTITIES_PER_CALL || call.bytes >= BYTES_PER_CALL) {
      call = { bucket: entity.bucket, puts: [], bytes: 0 };
      this.calls.push(call);
    }
    call.puts.push({ key, blob });
    call.bytes += blob.length;
    this.size.entities++;
    this.size.bytes += blob.length;
    return done;
  }

  /** Writes what is left; all buckets are complete then. @throws Interrupted as `add` */
  finish(): Promise<number[]> {
    return this.flush(Number.POSITIVE_INFINITY);
  }

  private full(): boolean {
    // A rate is kept within each twentieth of a second, not by a burst every now and then.
    const { ratePerS = Number.POSITIVE_INFINITY } = this.target;
    const most = Math.min(ENTITIES_PER_TRIP, Math.max(1, ratePerS / 20));
    return this.size.entities >= most || this.size.bytes >= BYTES_PER_TRIP;
  }

  private async flush(before: number): Promise<number[]> {
    await this.putAll(this.calls);
    this.entities += this.size.entities;
    this.calls = [];
    this.size = { entities: 0, bytes: 0 };
    const { ratePerS } = this.target;
    if (ratePerS !== undefined) {
      await sleep(Math.max(0, (this.entities / ratePerS) * 1000 - (performance.now() - this.startedMs)));
    }
    const done: number[] = [];
    while (this.next < this.buckets.length && this.buckets[this.next] < before) done.push(this.buckets[this.next++]);
    if (done.length > 0 && this.target.completes) await this.complete(done);
    return done;
  }

  private async putAll(calls: readonly PutCall[]): Promise<void> {
    let left = calls;
    for (let tries = 0; left.length > 0; tries++) {
      if (tries > 0) await sleep(tries < 3 ? 5 : HELD_DELAY_MS);
      const fates = await this.applier.put(left);
      if (fates.some((of) => of.includes("moved"))) throw new Interrupted("moved");
      // A repair since the listing; or, since nobody else builds here, a clock that ran ahead, before a failover.
      if (fates.some((of) => of.includes("older"))) throw new Interrupted("older");
      left = left.flatMap(({ bucket, puts }, c) => {
        const held = puts.filter((_, i) => fates[c][i] === "held");
        return held.length > 0 ? [{ bucket, puts: held }] : [];
      });
      if (left.length > 0 && tries >= HELD_TRIES) throw new Interrupted("held");
    }
  }

  private async complete(buckets: readonly number[]): Promise<void> {
    const { group, epoch, sealMs, fromMs } = this.target;
    // Where the archive has lost its beginning they are born with what is left of it: windows since then are ready, and a
    // lifetime, which wants a birth of 0, is not.
    const slots = group.slots.map(({ id, kind }) => ({ object: isObject(kind), slot: id }));
    const at = { epoch, sealIndex: sealMs / group.baseMs, fromIndex: Math.ceil(fromMs / group.baseMs) };
    const completed = await this.controls.complete(group, buckets, at, slots);
    if (completed.includes(false)) throw new Interrupted("moved");
  }
}
