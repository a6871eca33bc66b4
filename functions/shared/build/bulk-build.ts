/**
 * A bulk build of one stream (DESIGN §5 Birth, §10): every tile below the seal from the archive, put by generation, bucket by
 * bucket. It makes imported history and the past of new slots readable, and may be ended anywhere: the next one goes on.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type BuildProgress,
  type BuildRecord,
  markDone,
  pendingOf,
} from "../../../adapters/control-table/build-progress.ts";
import type { ControlTable } from "../../../adapters/control-table/control-table.ts";
import { buildEntities } from "../../../adapters/offline/build.ts";
import { type DuckOptions, DuckSession } from "../../../adapters/offline/duckdb.ts";
import type { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import type { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import type { ControlHashes } from "../../../adapters/valkey/control.ts";
import { BUCKETS } from "../../../adapters/valkey/layout.ts";
import type { Lock } from "../../../core/compile/compile.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { Group, Plan, Stream } from "../../../core/plan.ts";
import { currentEpoch } from "../current-store.ts";
import { BucketWriter, Interrupted } from "./bucket-writer.ts";
import { buildSeals } from "./build-readiness.ts";
import { isSameStore, recordOf, storeOf } from "./build-record.ts";
import { type BuildRange, mountWhole, neededRange, partsOf, sourcesOf } from "./build-sources.ts";

export interface BuildPorts {
  readonly plan: Plan;
  readonly lock: Lock;
  readonly connection: ValkeyConnection;
  readonly controls: ControlHashes;
  readonly table: ControlTable;
  readonly progress: BuildProgress;
  readonly mirror: ArchiveMirror;
  readonly duck: DuckOptions;
  /** Tenants that have anything in the stream's archive. */
  readonly tenants: (stream: string) => Promise<readonly string[]>;
  /** Event time before which the archive holds nothing any more; 0 when it is whole. */
  readonly archiveFromMs: (stream: string, nowMs: number) => Promise<number>;
}

export interface BuildRequest {
  readonly stream: string;
  /** Builds this tenant's entities alone: nothing becomes ready by it. @default all */
  readonly tenant?: string;
  /** Entities a second, at most. @default as fast as it goes */
  readonly ratePerS?: number;
  /** Begins anew instead of going on with a build that was cut off. */
  readonly restart?: boolean;
}

export interface BuildReport {
  readonly id: string;
  /** `more`: time was up, call again. `waiting`: `reason` says what for. */
  readonly state: "done" | "more" | "waiting";
  readonly reason: string | null;
  /** After which another call may find it otherwise. */
  readonly waitMs: number;
  /** Over all groups of the stream. */
  readonly bucketsDone: number;
  readonly buckets: number;
  readonly entities: number;
}

/** A call that was killed keeps the next one waiting for so long. */
const LEASE_MS = 60_000;
const RENEW_MS = 20_000;
/** Then the seal is let go on for a while: open tiles keep their identities. */
const HOLD_MS = 10 * 60_000;
/** More than control's period. */
const LET_GO_MS = 75_000;
const WAIT_MS = 5_000;
const SAVE_MS = 1_000;
/** One bucket at a time. */
const MAX_SPLIT = 4;
/** More than clocks differ by. */
const CLOCK_AHEAD_US = 3_600_000_000;

/**
 * Builds until all is done or `deadlineMs`, on the clock of `Date.now`.
 * @throws FreshetError `stream_unknown`; what reading the archive and the store throw
 */
export async function runBuild(ports: BuildPorts, request: BuildRequest, deadlineMs: number): Promise<BuildReport> {
  const stream = ports.plan.streams.find(({ name }) => name === request.stream);
  if (stream === undefined) {
    throw new FreshetError("stream_unknown", `there is no stream ${request.stream}`, {
      field: "stream",
      repair: `use ${ports.plan.streams.map(({ name }) => name).join(", ")}`,
    });
  }
  const standing = await ports.progress.get(stream.name);
  const build = new Build(ports, stream, request, await recordOf(ports, request, standing), standing?.id ?? null);
  // Of this call: another one may go on with the same build.
  const holder = `build ${build.record.id.slice(0, 8)}/${randomUUID().slice(0, 8)}`;
  const ready = await buildSeals(ports, build.groups, build.record);
  if (typeof ready === "string") return build.report("waiting", ready);
  const renew = () => {
    const nowMs = Date.now();
    return ports.table.takeLease(stream.name, { holder, expiresMs: nowMs + LEASE_MS }, nowMs);
  };
  if (!(await renew())) {
    const lease = await ports.table.getLease(stream.name);
    return build.report("waiting", `${lease?.holder ?? "somebody else"} works below the seal of ${stream.name}`);
  }
  const timer = setInterval(() => void renew().catch(() => {}), RENEW_MS);
  try {
    return await build.run(deadlineMs);
  } finally {
    clearInterval(timer);
    await ports.table.releaseLease(stream.name, holder);
  }
}

class Build {
  readonly groups: readonly Group[];
  record: BuildRecord;
  private readonly ports: BuildPorts;
  private readonly stream: Stream;
  private readonly request: BuildRequest;
  /** The build whose record this one's may take the place of. */
  private replaces: string | null;
  private savedMs = 0;
  /** By this call. */
  private bucketsDone = 0;

  constructor(ports: BuildPorts, stream: Stream, request: BuildRequest, record: BuildRecord, replaces: string | null) {
    this.ports = ports;
    this.stream = stream;
    this.request = request;
    this.record = record;
    this.replaces = replaces;
    this.groups = ports.plan.groups.filter((group) => group.stream === stream.name);
  }

  report(
    state: BuildReport["state"],
    reason: string | null = null,
    waitMs = reason === null ? 0 : WAIT_MS,
  ): BuildReport {
    const left = this.groups.reduce((sum, { name }) => sum + pendingOf(this.record, name).length, 0);
    const buckets = this.groups.length * BUCKETS;
    const { id, entities } = this.record;
    return { id, state, reason, waitMs, buckets, bucketsDone: buckets - left, entities };
  }

  /** Passes over what is left, each with a new listing, until nothing is. */
  async run(deadlineMs: number): Promise<BuildReport> {
    const untilMs = Math.min(deadlineMs, Date.now() + HOLD_MS);
    for (;;) {
      const { split } = this.record;
      try {
        // What was done in another store, or before a failover, may be gone.
        if (!isSameStore(this.record, await storeOf(this.ports))) throw new Interrupted("anew");
        await this.save();
        const seals = await buildSeals(this.ports, this.groups, this.record);
        if (typeof seals === "string") return this.report("waiting", seals);
        if (seals.size === 0) {
          this.record = { ...this.record, state: "done" };
          await this.save();
          return this.report("done");
        }
        if (!(await this.pass(seals, untilMs))) return this.timeUp(deadlineMs);
      } catch (error) {
        // Before a bucket was done: the next pass takes fewer at once.
        if (isOutOfRoom(error) && this.record.split > split) continue;
        if (!(error instanceof Interrupted)) throw error;
        this.record = { ...this.record, split };
        if (error.kind === "taken") return this.report("waiting", `another build of ${this.stream.name} has begun`);
        if (error.kind === "held") {
          await this.ports.progress.put(this.stream.name, this.record, this.replaces);
          return this.report(
            "waiting",
            "the store folds nothing, or a repair is not finished: look at `freshet status`, then `freshet recover`",
          );
        }
        if (error.kind === "anew") {
          this.replaces = (await this.ports.progress.get(this.stream.name))?.id ?? null;
          this.record = await recordOf(this.ports, this.request, this.record, true);
        }
        if (error.kind === "older") {
          this.record = { ...this.record, generation: this.record.generation + CLOCK_AHEAD_US };
        }
        if (Date.now() < untilMs) await sleep(200);
      }
      if (Date.now() >= untilMs) {
        await this.ports.progress.put(this.stream.name, this.record, this.replaces);
        return this.timeUp(deadlineMs);
      }
    }
  }

  /** @returns false when time was up */
  private async pass(seals: ReadonlyMap<string, number>, untilMs: number): Promise<boolean> {
    const { plan, lock, connection, table, duck, mirror } = this.ports;
    const epoch = await currentEpoch(table, lock);
    if (epoch === null) throw new Interrupted("held");
    const applier = new StoreApplier(connection, plan, epoch);
    // Above all that was put before, whichever node's clock that was.
    const listedUs = await storeClockUs(connection);
    const generation = Math.max(listedUs, this.record.generation + 1);
    const { split } = this.record;
    if (split > MAX_SPLIT) throw this.tooLarge();
    // Until a bucket is done: a call that is killed before, by its memory or its time, has the next one take fewer at once.
    this.record = { ...this.record, generation, split: split + 1 };
    await this.save();
    const fromMs = await this.ports.archiveFromMs(this.stream.name, Date.now());
    mirror.begin();
    const session = await DuckSession.open(duck);
    try {
      const refused = async (error: unknown): Promise<never> => {
        // As for a damaged object or a disk that is too small, and not killed: fewer buckets at once would not help.
        if (error instanceof FreshetError) {
          this.record = { ...this.record, split };
          await this.save();
        }
        throw error;
      };
      const range = await this.range(seals, fromMs).catch(refused);
      const whole = await mountWhole(session, mirror, range).catch(refused);
      for (const group of this.groups) {
        const sealMs = seals.get(group.name);
        if (sealMs === undefined) continue;
        const pending = pendingOf(this.record, group.name);
        const buckets = pending.slice(0, Math.ceil(BUCKETS / 8 ** split));
        const completes = this.request.tenant === undefined;
        const target = {
          group,
          epoch,
          sealMs,
          generation,
          listedUs,
          fromMs,
          completes,
          ratePerS: this.request.ratePerS,
        };
        const writer = new BucketWriter({ applier, controls: this.ports.controls }, target, buckets);
        const sources = whole === null ? [] : await sourcesOf(session, plan, group, whole);
        const parts = whole === null ? partsOf(session, { plan, mirror, refused }, group, range) : undefined;
        const before = this.record.entities;
        const note = async (done: readonly number[]) => {
          markDone(this.record.done[group.name], done);
          this.bucketsDone += done.length;
          this.record = { ...this.record, entities: before + writer.entities };
          if (done.length === 0) return;
          const first = this.record.split !== split;
          this.record = { ...this.record, split };
          if (first || Date.now() - this.savedMs > SAVE_MS) await this.save();
        };
        for await (const entity of buildEntities(session, { group, sources, parts, sealMs, fromMs, buckets })) {
          await note(await writer.add(entity));
          // The first buckets of a large archive may take all the time there is: they are waited for, or none would ever be done.
          if (Date.now() >= untilMs && this.bucketsDone > 0) {
            await this.save();
            return false;
          }
        }
        await note(await writer.finish());
      }
      return true;
    } finally {
      session.close();
    }
  }

  private async range(seals: ReadonlyMap<string, number>, fromMs: number): Promise<BuildRange> {
    const { tenant } = this.request;
    const tenants = tenant === undefined ? await this.ports.tenants(this.stream.name) : [tenant];
    return { stream: this.stream, tenants, ...neededRange(this.groups, seals, fromMs) };
  }

  private timeUp(deadlineMs: number): BuildReport {
    if (Date.now() >= deadlineMs) return this.report("more");
    return this.report("waiting", `the seal of ${this.stream.name} is let go on, it stood for the build`, LET_GO_MS);
  }

  private tooLarge(): FreshetError {
    const message = `calls that build ${this.stream.name} were killed before a single bucket was done`;
    const repair = "give the build function more memory, then run `freshet backfill --restart`";
    return new FreshetError("build_too_large", message, { repair });
  }

  /** @throws Interrupted when this build counts no more */
  private async save(): Promise<void> {
    this.savedMs = Date.now();
    this.record = { ...this.record, updatedMs: this.savedMs };
    const { progress } = this.ports;
    if (await progress.put(this.stream.name, this.record, this.replaces)) return;
    const standing = await progress.get(this.stream.name);
    const own = standing === null || standing.id === this.record.id || standing.id === this.replaces;
    throw new Interrupted(own ? "anew" : "taken");
  }
}

/** Of what DuckDB holds, in memory or on the disk. */
const isOutOfRoom = (error: unknown): boolean =>
  error instanceof FreshetError && (error.code === "offline_memory" || error.code === "offline_disk");

/** Microseconds of one primary, always the same while it lives: generations are compared with each other alone. */
export async function storeClockUs(connection: ValkeyConnection): Promise<number> {
  const [node] = await connection.primaries();
  const [seconds, micros] = await node.time();
  return Number(seconds) * 1_000_000 + Number(micros);
}
