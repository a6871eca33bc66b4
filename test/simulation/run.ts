/** One run: a deployment, its producers, its faults and its operators, from one seed. */
import { bucketOf } from "../../adapters/valkey/layout.ts";
import { floorTo } from "../../core/tiles/window.ts";
import { SEAL_MARGIN_MS } from "../../functions/shared/control-loop.ts";
import { Broker, type BrokerRecord } from "./broker.ts";
import { acknowledgedSubjects, compareIdentities, compareValues, type Subject } from "./check.ts";
import type { SimulatedServer } from "./connection.ts";
import { Dice } from "./dice.ts";
import { produce, type SimulatedEvent } from "./events.ts";
import { type Design, Functions } from "./functions.ts";
import { Keepers } from "./keepers.ts";
import { Operations } from "./operations.ts";
import { invocation } from "./operator.ts";
import { type Deployed, JOIN_KEYS, LATENESS_MS, newer, older, TIMEOUT_MS } from "./plans.ts";
import { profileOf } from "./profile.ts";
import { Actor, Scheduler } from "./scheduler.ts";
import { SideStores } from "./side-stores.ts";
import { Spec } from "./spec.ts";
import type { BucketState, SimulatedStore } from "./store.ts";
import { MemoryRuns } from "./tables.ts";
import { enter } from "./virtual.ts";

const MINUTE = 60_000;
/** Computed from cards' ids: of an erased one it may count or not. */
const OF_CARDS = "merchants:cards_1h";
/** Of every run; ahead of the server's own clock, so that it ends no key by itself. A quarter past an hour. */
const START_MS = Date.UTC(2040, 0, 2, 22, 15);
const LAG_MS = LATENESS_MS + TIMEOUT_MS + SEAL_MARGIN_MS;
/** Longest life of the repair function. */
const REPAIR_MS = 2 * MINUTE;
const BUILD_MS = 5 * MINUTE;
/**
 * How long what is left may take, once there are no more faults: a zombie that registers when its retry has cleared, and then dies,
 * holds the seal for six hours (docs/decisions/0011).
 */
const END_MS = 8 * 3_600_000;
/** How far the seal may be behind its lag in a store that is well: control runs each minute. */
const SLOW_MS = 3 * MINUTE;

const idOf = ({ fields }: SimulatedEvent, entity: string): string =>
  String(fields[JOIN_KEYS[entity as keyof typeof JOIN_KEYS]]);

export interface RunOptions {
  readonly seed: number;
  /** About how many events. @default by the seed */
  readonly events?: number;
  /** @default all that the seed brings */
  readonly faults?: ReadonlySet<string> | null;
  readonly kept?: ReadonlySet<number> | null;
  readonly design?: Design;
  /** Repairs late events and builds from the archive meanwhile. @default false */
  readonly repairs?: boolean;
  /** Told of every step. */
  readonly log?: (line: string) => void;
}

export interface RunReport {
  readonly seed: number;
  /** What is wrong, in the order in which it was found; empty when nothing is. */
  readonly violations: readonly string[];
  /** What the store's function has decided over: one for each event, entity and delivery. */
  readonly updates: number;
  readonly events: number;
  readonly deliveries: number;
  readonly steps: number;
  readonly compared: number;
  readonly faults: ReadonlyMap<string, number>;
  /** Each fault by its name, as `RunOptions.faults` takes them. */
  readonly fired: readonly string[];
  /** Indices of the events that were sent. */
  readonly sent: readonly number[];
  readonly trace: string;
  readonly simulatedMs: number;
}

export async function simulate(store: SimulatedStore, options: RunOptions): Promise<RunReport> {
  const run = new Run(store, options);
  enter(run.scheduler);
  await store.begin(run.scheduler, options.design?.source ?? ((text) => text));
  return run.run();
}

class Run implements SimulatedServer {
  readonly scheduler: Scheduler;
  readonly store: SimulatedStore;
  readonly spec: Spec;
  readonly violations: string[] = [];
  private readonly options: RunOptions;
  private readonly dice: Dice;
  private readonly profile: ReturnType<typeof profileOf>;
  private readonly events: ReadonlyMap<string, SimulatedEvent>;
  private readonly arrivals: ReturnType<typeof produce>["arrivals"];
  private readonly side: SideStores;
  private readonly functions: Functions;
  private readonly operations: Operations;
  private readonly broker: Broker;
  private readonly bySequence = new Map<string, readonly SimulatedEvent[]>();
  readonly groupOf: (entity: string) => number;
  /** What new invocations of the aggregate function run, and what control runs, which follows. */
  private deployed: Deployed = older;
  private controlled: Deployed = older;
  /** What an invocation of the aggregate function runs. */
  private readonly plans = new WeakMap<Actor, Deployed>();
  private compared = 0;
  private producing = true;
  private over = false;
  /** Builds that are not done. */
  private building = 0;
  private ticks = 0;

  constructor(store: SimulatedStore, options: RunOptions) {
    this.options = { ...options, repairs: options.repairs || options.design?.repairs };
    this.store = store;
    this.profile = profileOf(options.seed, options.events);
    this.dice = new Dice(options.seed, { ...this.profile.weights, ...options.design?.weights }, options.faults ?? null);
    this.scheduler = new Scheduler(this.dice, START_MS);
    this.scheduler.log = options.log ?? null;
    const traffic = { ...this.profile.traffic, startMs: START_MS + MINUTE, kept: options.kept ?? null };
    const { arrivals, events } = produce(this.dice, traffic);
    this.arrivals = arrivals;
    this.events = events;
    this.spec = new Spec(store, this.scheduler, events);
    this.spec.knows(newer.plan);
    this.spec.onSeal = (...move) => this.sealMoved(...move);
    const groups = new Map(newer.plan.groups.map(({ entity, id }) => [entity, id]));
    this.groupOf = (entity) => groups.get(entity)!;
    this.side = new SideStores(this.scheduler, this.spec, this.groupOf, (sequence) => this.bySequence.get(sequence)!);
    const tenants = Array.from({ length: this.profile.traffic.tenants }, (_, i) => `t${i}`);
    const runs = new MemoryRuns();
    this.functions = new Functions(this, this.side, options.design ?? {}, tenants, runs);
    this.broker = new Broker(this.scheduler, {
      ...this.profile.mapping,
      lanes: options.design?.lanes ?? this.profile.mapping.lanes,
      timeoutMs: TIMEOUT_MS,
      invoke: (actor, shard, records) => {
        const of = `${records[0].sequence} to ${records[records.length - 1].sequence}`;
        this.scheduler.note(`${actor.name} begins with ${records.length} records of ${shard}, ${of}`);
        this.plans.set(actor, this.deployed);
        return this.functions.aggregate(this.deployed, actor, shard, records);
      },
      acknowledged: (records, actor) => this.acknowledged(records, actor),
    });
    this.operations = new Operations({
      ...{ server: this, side: this.side, scheduler: this.scheduler, broker: this.broker, functions: this.functions },
      ...{ traffic, startMs: START_MS, keepers: new Keepers(this, this.side, this.functions, runs) },
      controlled: () => this.controlled,
      deployed: () => this.deployed,
      isOver: () => this.over,
    });
  }

  violated(what: string): void {
    this.violations.push(`${new Date(this.scheduler.nowMs).toISOString()} ${what}`);
  }

  async run(): Promise<RunReport> {
    const { scheduler } = this;
    this.begin();
    await scheduler.run(() => this.over || this.violations.length > 0);
    if (this.violations.length === 0 && !this.over) this.violated("nothing goes on any more");
    return {
      seed: this.options.seed,
      violations: this.violations,
      updates: this.spec.updates,
      events: this.events.size,
      deliveries: this.broker.deliveries,
      steps: scheduler.steps,
      compared: this.compared,
      faults: this.dice.counts,
      fired: this.dice.fired,
      sent: [...this.events.values()].map(({ index }) => index),
      trace: scheduler.trace.toString(16).padStart(8, "0"),
      simulatedMs: Math.round(scheduler.nowMs - START_MS),
    };
  }

  private begin(): void {
    const { scheduler, profile, dice } = this;
    this.tick();
    let next = 0;
    const produceDue = (): void => {
      while (next < this.arrivals.length && this.arrivals[next].atMs <= scheduler.nowMs) {
        const { partitionKey, bytes, events } = this.arrivals[next++];
        const sequence = this.broker.put(partitionKey, bytes, events);
        this.bySequence.set(sequence, events);
      }
      if (next < this.arrivals.length) scheduler.after(this.arrivals[next].atMs - scheduler.nowMs, produceDue);
      else this.producing = false;
    };
    scheduler.after(0, produceDue);
    const spanMs = profile.traffic.durationMs;
    const sometime = (what: string) => MINUTE + dice.unit(`when ${what}`) * spanMs;
    for (let i = 0; i < 3; i++) {
      if (dice.fault("failover", `f${i}`, 0.25)) scheduler.after(sometime(`failover ${i}`), () => this.lag(`f${i}`));
      if (dice.fault("restart", `r${i}`, 0.1)) scheduler.after(sometime(`restart ${i}`), () => this.store.restart());
      if (dice.fault("reshard", `s${i}`, 0.4)) scheduler.after(sometime(`reshard ${i}`), () => this.reshard(`s${i}`));
      scheduler.after(sometime(`look ${i}`), () => this.look(`look ${i}`));
    }
    this.operations.begin();
    if (profile.mapping.lanes > 1) dice.happened("run with lanes");
    if (dice.fault("total loss", "l", 0.15)) {
      scheduler.after(sometime("loss"), async () => {
        scheduler.note("total loss");
        await this.store.lose();
        this.spec.lose();
      });
    }
    if (this.options.repairs && dice.fault("backfill", "b", 0.3)) {
      this.building++;
      scheduler.after(sometime("backfill"), () => this.backfill("backfill#0"));
    }
    if (dice.fault("deployment", "d", 0.5)) scheduler.after(sometime("deployment"), () => this.deploy());
    scheduler.after(MINUTE + spanMs, () => this.ending());
  }

  /** Each minute: heartbeats, and control with the list of shards. */
  private tick(): void {
    if (this.over) return;
    const { scheduler, dice } = this;
    const name = `control#${++this.ticks}`;
    this.broker.heartbeat();
    const actor = new Actor(name);
    scheduler.after(TIMEOUT_MS, () => actor.kill(scheduler.nowMs));
    const shards = { createdAtMs: this.broker.createdAtMs, shards: this.broker.list() };
    this.functions.control(this.controlled, actor, shards).then(
      ({ state, seals, held }) => {
        scheduler.note(`${name} ${state} ${JSON.stringify(seals)} ${JSON.stringify(held)}`);
        if (state !== "ok" && state !== "new") this.operations.alarm();
      },
      () => {},
    );
    this.operations.tick(this.ticks);
    if (this.ticks % 7 === 0) {
      const sweeper = new Actor(`sweep#${this.ticks}`);
      scheduler.after(TIMEOUT_MS, () => sweeper.kill(scheduler.nowMs));
      this.functions.sweep(this.controlled, sweeper).catch(() => {});
    }
    if (this.options.repairs && dice.unit(`${name} repairs`) < 0.5) {
      const repairer = new Actor(`repair#${this.ticks}`);
      scheduler.after(REPAIR_MS, () => repairer.kill(scheduler.nowMs));
      this.functions.repair(this.controlled, repairer, REPAIR_MS).catch(() => {});
    }
    scheduler.after(this.scheduler.calm || this.producing ? MINUTE : MINUTE / 2, () => this.tick());
  }

  /** From here on the replica gets nothing; some time later it takes over. */
  private async lag(name: string): Promise<void> {
    await this.store.checkpoint();
    this.spec.checkpoint();
    this.scheduler.after(this.dice.between(`${name} suffix`, 10, 4_000), async () => {
      if (!this.spec.hasReplica) return;
      this.scheduler.note(`failover ${name}`);
      await this.store.failover();
      this.spec.failover();
    });
  }

  private reshard(name: string): void {
    const open = this.broker.shards.filter(({ closed }) => !closed);
    const [a, b] = open;
    if (open.length > 1 && this.dice.unit(`${name} merge`) < 0.5) this.broker.merge(a, b);
    else this.broker.split(this.dice.pick(`${name} which`, open));
  }

  /** `freshet backfill`: calls of the build function until it is done. */
  private backfill(name: string): void {
    const { scheduler } = this;
    let calls = 0;
    let restart = false;
    const call = (): void => {
      const again = () => scheduler.after(this.dice.between(`${name} ${calls} again`, 1_000, 40_000), call);
      invocation(
        scheduler,
        `${name}.${++calls}`,
        (actor) => this.functions.build(this.controlled, actor, BUILD_MS, restart),
        BUILD_MS,
      )
        .then(({ state, reason }) => {
          scheduler.note(`${name}.${calls} ${state} ${reason}`);
          if (state === "done") this.building--;
          else again();
        })
        .catch((error: { code?: string }) => {
          // A part that the run lacks must not look like a build that has to be tried again.
          if (error instanceof TypeError) this.violated(`a build failed: ${error.stack}`);
          // Killed too often before a bucket was done: it asks for somebody, who begins anew.
          restart = error.code === "build_too_large";
          again();
        });
    };
    call();
  }

  /** New code for the aggregate function, then for control, once no invocation of the older one is left. */
  private deploy(): void {
    this.deployed = newer;
    if (this.options.repairs) this.building++;
    this.scheduler.after(TIMEOUT_MS + this.dice.between("deployment", 1_000, 3 * MINUTE), () => {
      this.controlled = newer;
      if (this.options.repairs) this.backfill("backfill#1");
    });
  }

  /** No more faults; when all is delivered and the store is whole, everything is compared. */
  private ending(): void {
    const { scheduler } = this;
    const untilMs = scheduler.nowMs + (this.options.design?.endMs ?? END_MS);
    scheduler.calm = true;
    const look = async (): Promise<void> => {
      const repaired = !this.options.repairs || (this.side.late.size === 0 && this.building === 0);
      const isBusy = this.producing || !repaired || !this.broker.idle || this.operations.isBusy;
      if (isBusy || !(await this.whole())) {
        if (scheduler.nowMs < untilMs) scheduler.after(MINUTE / 4, look);
        else
          this.violated(
            "what was sent is not acknowledged, the store not whole, or the seal held, hours after the last fault",
          );
        return;
      }
      await this.compareAll();
      this.over = true;
    };
    scheduler.after(0, look);
  }

  private async whole(): Promise<boolean> {
    const states = await this.store.controlStates();
    const isWhole = (state: BucketState | null) => state?.state === "ok" && !state.lacksPushed;
    if (this.controlled !== this.deployed || !states.every(isWhole)) return false;
    if (this.options.design?.stepwise === false) return true;
    const sealedMs = this.scheduler.nowMs - LAG_MS - SLOW_MS;
    return this.controlled.plan.groups.every(({ name, baseMs }) =>
      states.every((state) => (state!.seals.get(name) ?? 0) * baseMs >= floorTo(sealedMs, baseMs)),
    );
  }

  /** A fixture's store is not held against the specification: what was acknowledged is all there is to go by. */
  private async compareAll(): Promise<void> {
    const { plan } = this.controlled;
    if (this.options.design?.stepwise === false) {
      await this.compare("the end", acknowledgedSubjects(plan, this.events.values()));
      return;
    }
    await this.spec.refresh();
    this.operations.learn();
    this.conservation();
    for (const what of this.operations.leftovers().slice(0, 4)) this.violated(what);
    const pushed = await this.operations.comparePushed();
    this.compared += pushed.compared;
    if (pushed.wrong.length > 0)
      this.violated(`${pushed.wrong.length} pushed values wrong: ${pushed.wrong.slice(0, 4).join("; ")}`);
    const wrong = await compareIdentities(this, plan);
    if (wrong.length > 0) this.violated(`${wrong.length} tiles with other identities: ${wrong.slice(0, 4).join("; ")}`);
    await this.compare("the end", this.counted());
  }

  /** Everything acknowledged is counted and archived, or waits for repair, and nothing else is counted. */
  private conservation(): void {
    for (const event of this.events.values()) {
      if (!event.acknowledged) {
        this.violated(`event ${event.index} is not acknowledged`);
        continue;
      }
      if (event.refused) {
        if (event.counted !== 0) this.violated(`event ${event.index} was refused and is counted`);
        continue;
      }
      for (const { id: groupId, entity } of this.controlled.plan.groups) {
        if (event.fields[JOIN_KEYS[entity as keyof typeof JOIN_KEYS]] === null) continue;
        const bit = 1 << groupId;
        const [counted, archived, late, queued] = [event.counted, event.archived, event.late, event.queued].map(
          (bits) => (bits & bit) !== 0,
        );
        const what = `event ${event.index} for its ${entity}`;
        // No delivery counts it there. A build or a repair may, which the function does not throw over.
        if (event.throws.includes(entity)) continue;
        if (this.operations.isErased(event, entity)) {
          if (counted) this.violated(`${what} is counted, and was erased`);
        } else if (archived && !counted)
          this.violated(
            `${what} is archived as visible since ${new Date(event.visibleMs).toISOString()}, happened ${new Date(event.timeMs).toISOString()}, and is not counted`,
          );
        // No row names an entity that the plan of its time didn't have; a replay under the next one counts for it.
        else if (!archived && !late) continue;
        // Or another delivery's row doesn't: then the event is visible for it since that one's smallest time (decision 0037).
        else if (counted && !archived && !this.side.isVisible(event.identity, entity))
          this.violated(`${what} is counted and not archived as visible`);
        // A replay under a plan with one entity more says late of it where the event's own row, which names it not, makes it visible.
        else if (late && !counted && !queued && !this.side.isVisible(event.identity, entity))
          this.violated(`${what} is late and not queued for repair`);
      }
    }
  }

  private counted(): Subject[] {
    return [...this.spec.entities.values()].map((entity) => ({ ...entity, events: entity.visible.keys() }));
  }

  private acknowledged(records: readonly BrokerRecord[], actor: Actor): void {
    this.scheduler.note(`${actor.name} acknowledged`);
    const { plan } = this.plans.get(actor)!;
    this.operations.learn();
    for (const { events } of records) {
      for (const event of events) {
        event.acknowledged = true;
        const given = plan.groups.filter(
          ({ entity }) => event.fields[JOIN_KEYS[entity as keyof typeof JOIN_KEYS]] !== null,
        );
        const isThrownOver = given.some(({ entity }) => event.throws.includes(entity));
        if ((event.refused || isThrownOver) && !event.quarantined)
          this.violated(`event ${event.index} was acknowledged and is not in the quarantine`);
        if (event.refused) continue;
        for (const { id: groupId, entity } of given) {
          if (event.throws.includes(entity)) continue;
          const [bit, what] = [1 << groupId, `event ${event.index} was acknowledged and its ${entity}`];
          // Of what is erased no row is written, or it goes again.
          if (this.operations.isErased(event, entity)) continue;
          if (((event.archived | event.late) & bit) === 0) this.violated(`${what} has no row in the archive`);
          else if ((event.late & ~event.archived & ~event.wasQueued & bit) !== 0)
            this.violated(`${what} is late and not queued`);
        }
      }
    }
  }

  private sealMoved(bucket: number, group: string, fromIndex: number | null, toIndex: number): void {
    if (bucket === 0) this.scheduler.note(`seal of ${group} ${toIndex}`);
    if (this.options.design?.stepwise === false) return;
    const { id, baseMs, entity } = newer.plan.groups.find(({ name }) => name === group)!;
    const what = `the seal of bucket ${bucket}, ${group}, went to ${toIndex}`;
    if (fromIndex !== null && toIndex < fromIndex) this.violated(`${what}, back from ${fromIndex}`);
    if (toIndex * baseMs > this.scheduler.nowMs - LAG_MS) this.violated(`${what}, too near to now`);
    for (const event of this.spec.unarchived) {
      // Of some buckets that were restored the seal lies further back than that of the others.
      const isHere = bucketOf(event.tenant, entity, idOf(event, entity)) === bucket;
      const counted = (event.counted & (1 << id)) !== 0;
      if (isHere && counted && Math.floor(event.timeMs / baseMs) < toIndex) {
        this.violated(`${what}, past event ${event.index} (${event.identity}), which is counted and not archived yet`);
      }
    }
  }

  /** In between every entity's values are those of what it counts. */
  private async look(when: string): Promise<void> {
    if (this.options.design?.stepwise !== false) await this.compare(when, this.counted());
  }

  private async compare(when: string, subjects: readonly Subject[]): Promise<void> {
    const { nowMs } = this.scheduler;
    const { plan } = this.controlled;
    const later = this.dice.between(`${when} later`, 0, 90 * MINUTE);
    const instants = [nowMs, nowMs - 40_000, nowMs + later, nowMs + 27 * 60 * MINUTE].map(Math.floor);
    const { hasErasedCards } = this.operations;
    const isTold = (feature: string) => !(hasErasedCards && feature === OF_CARDS);
    const { compared, wrong } = await compareValues(this, plan, subjects, instants, isTold);
    this.compared += compared;
    this.scheduler.note(`${when} ${compared} ${wrong.length}`);
    if (wrong.length > 0)
      this.violated(`${wrong.length} of ${compared} values wrong at ${when}: ${wrong.slice(0, 4).join("; ")}`);
  }
}
