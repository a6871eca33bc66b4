/** The functions of a simulated deployment: what their handlers do, over the product's own code and the run's ports. */
import { EventCodec } from "../../adapters/avro/event-codec.ts";
import type { BuildProgress } from "../../adapters/control-table/build-progress.ts";
import type { PendingItem } from "../../adapters/late-queue/late-work.ts";
import { type ApplyResult, isEpochChange, StoreApplier } from "../../adapters/valkey/applier.ts";
import { ControlHashes } from "../../adapters/valkey/control.ts";
import { readMendTokens } from "../../adapters/valkey/mend.ts";
import { type PreparedEvent, RecordPacker } from "../../adapters/valkey/record.ts";
import { sweep } from "../../adapters/valkey/sweeper.ts";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import { InfrastructureError } from "../../core/errors.ts";
import type { Stream } from "../../core/plan.ts";
import {
  type AggregationPorts,
  aggregateBatch,
  replayBatch,
  type StreamRecord,
} from "../../functions/shared/aggregation/aggregation.ts";
import { type BuildPorts, type BuildReport, runBuild } from "../../functions/shared/build/bulk-build.ts";
import { rebuildIn } from "../../functions/shared/build/entity-build.ts";
import {
  accept,
  beginRestore,
  type ControlPorts,
  type ControlReport,
  controlStep,
  type StreamShards,
} from "../../functions/shared/control-loop.ts";
import { currentEpoch } from "../../functions/shared/current-store.ts";
import { repeatAfterFailover } from "../../functions/shared/materialization/restore-pushed.ts";
import { type RepairPorts, repairPass } from "../../functions/shared/repair/repair.ts";
import { repairRound } from "../../functions/shared/repair/repair-round.ts";
import { type RepeatReport, repeatRepairs } from "../../functions/shared/repair/repeat-repairs.ts";
import { settleRepairs } from "../../functions/shared/repair/settle-repairs.ts";
import { MemoryProgress, mirrorOf } from "./builds.ts";
import { SimulatedConnection, type SimulatedServer } from "./connection.ts";
import { type Deployed, STREAM, TIMEOUT_MS } from "./plans.ts";
import type { Actor } from "./scheduler.ts";
import type { SideStores } from "./side-stores.ts";
import type { Expected } from "./spec.ts";
import type { MemoryRuns } from "./tables.ts";

/** What a fixture may put in the place of the product's parts. */
export interface Design {
  /** @default the product's, watched beside the specification */
  readonly applier?: (
    server: SimulatedServer,
    actor: Actor,
    inner: StoreApplier,
    shard: string,
    records: readonly StreamRecord[],
  ) => Pick<StoreApplier, "apply">;
  readonly watermark?: (watermark: Watermark) => Watermark;
  readonly aggregate?: typeof aggregateBatch;
  /** Of the control function. @default the aggregate function's */
  readonly timeoutMs?: number;
  /** Of the server-side function. */
  readonly source?: (text: string) => string;
  /** @default true */
  readonly replayArchives?: boolean;
  readonly replays?: boolean;
  readonly noticesFailovers?: boolean;
  /** Whether what a replica lacks of repairs is built anew. @default true */
  readonly repeats?: boolean;
  /** Late events are repaired, whatever the run's options say. @default false */
  readonly repairs?: boolean;
  /** Parallelization factor. @default the profile's */
  readonly lanes?: number;
  /** After how long without faults all must be well, ms. @default what the product answers for */
  readonly endMs?: number;
  /** Of kinds of faults, over the profile's. */
  readonly weights?: Readonly<Record<string, number>>;
  /** Whether fates and seals are held against the specification at every step. @default true */
  readonly stepwise?: boolean;
}

/** Of the server-side function's source, one place. */
export const changed =
  (from: string, to: string) =>
  (text: string): string => {
    if (text.split(from).length !== 2) throw new Error(`the function's source has another form, not once: ${from}`);
    return text.replace(from, to);
  };

/** The same applier, within a step of the scheduler. */
export const directly = (server: SimulatedServer, inner: StoreApplier): StoreApplier =>
  Object.assign(Object.create(StoreApplier.prototype), inner, {
    connection: new SimulatedConnection(server, null),
  }) as StoreApplier;

interface Container {
  readonly connection: SimulatedConnection;
  readonly watermark: Watermark;
  readonly of: Deployed;
  applier: StoreApplier | null;
}

const packers = new Map<string, RecordPacker>();
function packerOf({ plan }: Deployed): RecordPacker {
  let packer = packers.get(plan.hash);
  if (packer === undefined) packers.set(plan.hash, (packer = new RecordPacker(plan, STREAM)));
  return packer;
}

/** Making one costs a hash over the function's source; the rest of it is plain fields. */
const appliers = new Map<string, StoreApplier>();
export function applierOf(
  connection: SimulatedConnection,
  { plan }: Deployed,
  epoch: number,
  replaying: boolean,
): StoreApplier {
  let made = appliers.get(plan.hash);
  if (made === undefined) appliers.set(plan.hash, (made = new StoreApplier(connection, plan, epoch)));
  return Object.assign(Object.create(StoreApplier.prototype), made, { connection, epoch, replaying }) as StoreApplier;
}

export class Functions {
  private readonly server: SimulatedServer;
  private readonly side: SideStores;
  private readonly design: Design;
  private readonly warm: Container[] = [];
  private readonly progress = new MemoryProgress();
  private readonly runs: MemoryRuns;
  private readonly tenants: readonly string[];

  constructor(server: SimulatedServer, side: SideStores, design: Design, tenants: readonly string[], runs: MemoryRuns) {
    this.runs = runs;
    this.tenants = tenants;
    this.server = server;
    this.side = side;
    this.design = design;
  }

  /** One invocation of the aggregate function, as in functions/aggregate.ts. */
  async aggregate(of: Deployed, actor: Actor, shard: string, records: readonly StreamRecord[]): Promise<void> {
    const container = this.container(of);
    container.connection.actor = actor;
    try {
      container.applier ??= applierOf(container.connection, of, await this.epoch(of, actor), false);
      const ports = this.ports(container, actor, container.applier, shard, records);
      await (this.design.aggregate ?? aggregateBatch)(ports, shard, records);
    } catch (error) {
      if (isEpochChange(error)) container.applier = null;
      throw error;
    } finally {
      // One that was killed does not come here.
      this.warm.push(container);
    }
  }

  /** One invocation that replays. @returns how many events were missing */
  async replay(of: Deployed, actor: Actor, shard: string, records: readonly StreamRecord[]): Promise<number> {
    const container = this.fresh(of, actor);
    const { replays = true, replayArchives = true } = this.design;
    if (!replays) return 0;
    const applier = applierOf(container.connection, of, await this.epoch(of, actor), true);
    const ports = this.ports(container, actor, applier, shard, records);
    const archive = replayArchives ? ports.archive : { write: async () => [] };
    return (await replayBatch({ ...ports, archive }, shard, records)).applied;
  }

  /** The control function's tick. */
  control(of: Deployed, actor: Actor, shards: StreamShards | null): Promise<ControlReport> {
    const streams: Record<string, StreamShards> = shards === null ? {} : { [STREAM]: shards };
    return controlStep(this.controlPorts(of, actor), streams, Math.floor(this.server.scheduler.nowMs));
  }

  restore(of: Deployed, actor: Actor): Promise<number> {
    return beginRestore(this.controlPorts(of, actor), Math.floor(this.server.scheduler.nowMs));
  }

  /** As functions/control.ts does. */
  async accept(of: Deployed, actor: Actor, runs: string | undefined, repairsSinceMs: number | null): Promise<void> {
    const { controls } = this.controlPorts(of, actor);
    await repeatAfterFailover(controls, this.runs.of(this.server.scheduler, actor));
    return accept(this.controlPorts(of, actor), runs, Math.floor(this.server.scheduler.nowMs), repairsSinceMs);
  }

  async sweep(of: Deployed, actor: Actor): Promise<void> {
    const connection = new SimulatedConnection(this.server, actor);
    const applier = applierOf(connection, of, await this.epoch(of, actor), false);
    await sweep(connection, applier, of.plan, this.server.scheduler.nowMs + TIMEOUT_MS);
  }

  /** The repair function's round over the late queue, as in functions/repair.ts. */
  async repair(of: Deployed, actor: Actor, livesMs: number): Promise<void> {
    const { plan } = of;
    const { scheduler } = this.server;
    const connection = new SimulatedConnection(this.server, actor);
    connection.plan = plan;
    const inner = applierOf(connection, of, await this.epoch(of, actor), false);
    const table = this.side.tableOf(actor);
    const work = this.side.workOf(actor);
    const clock = () => Math.floor(scheduler.nowMs);
    const ports: RepairPorts = {
      ...{ plan, work, clock },
      tokens: (keys) => readMendTokens(connection, keys),
      applier: inner,
      holder: async (stream) => {
        const lease = await table.getLease(stream);
        return lease !== null && lease.expiresMs > clock() ? lease.holder : null;
      },
      find: this.side.findOf(actor),
      archiveFromMs: async () => 0,
      archive: this.side.archiveOf(actor),
      late: this.side.lateOf(actor),
      onFailure: (_, error) => this.server.violated(`a repair failed: ${error}`),
    };
    const pass = (...args: [Stream, readonly PendingItem[]]) => repairPass(ports, ...args);
    await repairRound({ plan, pass, onBlocked: () => {}, clock }, work.pages(), clock() + livesMs / 2);
  }

  /** A call of the build function, which gives up after `livesMs`. */
  build(of: Deployed, actor: Actor, livesMs: number, restart: boolean): Promise<BuildReport> {
    return runBuild(
      this.buildPorts(of, actor),
      { stream: STREAM, restart },
      Math.floor(this.server.scheduler.nowMs + livesMs / 2),
    );
  }

  /** As it is asked for after a failover. */
  async repeatRepairs(of: Deployed, actor: Actor): Promise<RepeatReport> {
    if (this.design.repeats === false) return { entities: 0, waiting: [] };
    const ports = this.buildPorts(of, actor);
    const connection = new SimulatedConnection(this.server, actor);
    connection.plan = of.plan;
    const applier = applierOf(connection, of, await this.epoch(of, actor), false);
    return repeatRepairs({
      ...ports,
      settle: (entities) => settleRepairs(applier, entities),
      rebuild: (...args) => rebuildIn(ports, ...args),
    });
  }

  progressOf(actor: Actor): BuildProgress {
    return this.progress.of(this.server.scheduler, actor);
  }

  private buildPorts({ plan, lock }: Deployed, actor: Actor): BuildPorts {
    const { scheduler, spec } = this.server;
    const connection = new SimulatedConnection(this.server, actor);
    return {
      ...{ plan, lock, connection },
      controls: this.controls(connection, plan),
      table: this.side.tableOf(actor),
      progress: this.progressOf(actor),
      mirror: mirrorOf(scheduler, this.side, spec.built, plan, actor),
      duck: { folder: "" },
      tenants: async () => this.tenants,
      archiveFromMs: async () => 0,
    };
  }

  private controlPorts({ plan, lock }: Deployed, actor: Actor): ControlPorts {
    const connection = new SimulatedConnection(this.server, actor);
    return {
      plan,
      lock,
      controls: this.controls(connection, plan),
      watermark: new Watermark(connection),
      table: this.side.tableOf(actor),
      imports: async () => 0,
      timeoutMs: this.design.timeoutMs ?? TIMEOUT_MS,
      loadFunction: () => applierOf(connection, { plan, lock }, 0, false).loadFunction(),
    };
  }

  private controls(connection: SimulatedConnection, plan: Deployed["plan"]): ControlHashes {
    const controls = new ControlHashes(connection, plan);
    return this.design.noticesFailovers === false
      ? (Object.assign(Object.create(controls), { noticeFailover: async () => 0 }) as ControlHashes)
      : controls;
  }

  private ports(
    { connection, of, watermark }: Container,
    actor: Actor,
    inner: StoreApplier,
    shard: string,
    records: readonly StreamRecord[],
  ): AggregationPorts {
    const { design, server, side } = this;
    const applier =
      design.applier?.(server, actor, inner, shard, records) ?? watched(server, connection, inner, design);
    return {
      plan: of.plan,
      stream: of.plan.streams[0],
      codec: EventCodec.for(of.plan.streams[0].contract),
      packer: packerOf(of),
      applier: applier as StoreApplier,
      watermark: design.watermark?.(watermark) ?? watermark,
      archive: side.archiveOf(actor),
      quarantine: side.quarantineOf(actor),
      late: side.lateOf(actor),
    };
  }

  private container(of: Deployed): Container {
    const at = this.warm.findLastIndex((container) => container.of === of);
    if (at >= 0) return this.warm.splice(at, 1)[0];
    return this.fresh(of, null);
  }

  private fresh(of: Deployed, actor: Actor | null): Container {
    const connection = new SimulatedConnection(this.server, actor);
    return { connection, of, watermark: new Watermark(connection), applier: null };
  }

  async epoch({ lock }: Deployed, actor: Actor): Promise<number> {
    const epoch = await currentEpoch(this.side.tableOf(actor), lock);
    if (epoch === null) throw new InfrastructureError("store_not_ready", "control has not run yet");
    return epoch;
  }
}

/** The product's applier, whose every answer must be the specification's. */
function watched(
  server: SimulatedServer,
  connection: SimulatedConnection,
  inner: StoreApplier,
  design: Design,
): Pick<StoreApplier, "apply"> {
  return {
    async apply(events: readonly PreparedEvent[]): Promise<ApplyResult> {
      const expected = connection.expect(events);
      const result = await inner.apply(events);
      if (design.stepwise !== false) compare(server, events, result, expected);
      return result;
    },
  };
}

function compare(
  server: SimulatedServer,
  events: readonly PreparedEvent[],
  { fates }: ApplyResult,
  expected: Expected,
): void {
  for (let e = 0; e < events.length; e++) {
    for (let u = 0; u < fates[e].length; u++) {
      const [given, wanted] = [fates[e][u], expected[e][u]];
      if (given.fate === wanted?.fate && given.visibleMs === wanted.visibleMs) continue;
      server.violated(
        `event ${events[e].identity} of ${given.entity} ${given.id}: the function answered ${given.fate} ${given.visibleMs}, ` +
          `the specification ${wanted?.fate ?? "nothing"} ${wanted?.visibleMs ?? ""}`,
      );
    }
  }
}
