/**
 * The read side of the online store: one command an entity. Most entities' hashes are small and in the server's compact
 * encoding, where each field that HMGET names is a walk through all that is there; HSCAN walks once and answers everything.
 * Of a hash that has outgrown that encoding it answers next to nothing; then fields are named, which costs little there.
 * They are computed, not listed: for a base tile and a seal the same for every entity, so worked out once a minute.
 */
import { FreshetError } from "../../core/errors.ts";
import type { FeatureValue, Plan } from "../../core/plan.ts";
import { newestVisible } from "../../core/tiles/tiles.ts";
import { floorTo } from "../../core/tiles/window.ts";
import type { EntityAnswer, EntityRequest, OnlineReader, StoreState } from "../online-store/online-store.ts";
import { type Command, ValkeyConnection, type ValkeyOptions } from "./connection.ts";
import type { FeatureSet, WholeHash } from "./feature-set.ts";
import { FeatureSets } from "./feature-sets.ts";
import {
  BUCKETS,
  bucketOf,
  CONTROL_FIELD,
  controlKey,
  decodeControl,
  decodeMeta,
  entityKey,
  groupField,
  PUSHED_MISSING_FIELD,
  pushedKey,
  runBytes,
  toldState,
} from "./layout.ts";
import type { ReadPlan } from "./read-plan.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

/** A read that is overtaken by folds this often is not going to settle. */
const MAX_TRIPS = 5;
/** A seal further behind than this is not guessed: entities that lag so far take a second trip, for just what they have. */
const GUESS_LAG_MS = 900_000;
/** Keys of hashes that are known to be large. */
const LARGE_LIMIT = 100_000;

/** What is read of a bucket's control hash, for all requests of the bucket. */
interface BucketControl {
  readonly key: string;
  /** Null before the answer. It comes before those of the bucket's entities. */
  fields: readonly (Buffer | null)[] | null;
}

/** All of a small hash; the fields that a plan names; or all of any hash, when a plan would name too many. */
type Ask = "small" | "whole" | ReadPlan;

/** One request, and its values as they come in. */
interface Reading {
  readonly control: BucketControl;
  readonly hasPushed: boolean;
  readonly values: FeatureValue[];
}

/** What one stream says of a request's entity. */
interface Part {
  readonly reading: Reading;
  readonly set: FeatureSet;
  readonly key: string;
  ask: Ask;
  done: boolean;
}

/** With the patience of a request; to be shared with whatever a request asks of the store beside its read. */
export const readingConnection = (options: ValkeyOptions): ValkeyConnection =>
  new ValkeyConnection({ timeoutMs: 250, waitMs: 0, ...options });

/** @param at closed with the reader, also where it is shared */
export function createReader(plan: Plan, at: ValkeyOptions | ValkeyConnection): OnlineReader {
  return new ValkeyReader(plan, at instanceof ValkeyConnection ? at : readingConnection(at));
}

class ValkeyReader implements OnlineReader {
  private readonly plan: Plan;
  private readonly connection: ValkeyConnection;
  private readonly sets: FeatureSets;
  private readonly large = new Set<string>();
  private readonly latenessMs: ReadonlyMap<string, number>;
  private readonly controlFields: EncodedArguments;
  /** Newest seal seen for each group, in ms: the guess for where an entity is folded to. */
  private readonly seals = new Map<number, number>();

  constructor(plan: Plan, connection: ValkeyConnection) {
    this.plan = plan;
    this.connection = connection;
    this.sets = new FeatureSets(plan);
    this.latenessMs = new Map(plan.streams.map(({ name, allowedLatenessMs }) => [name, allowedLatenessMs]));
    this.controlFields = encodeArguments(controlFields(plan));
  }

  async read(requests: readonly EntityRequest[], asOfMs: number): Promise<readonly EntityAnswer[]> {
    const controls = new Map<number, BucketControl>();
    const commands: Command[] = [];
    const parts: Part[] = [];
    const readings = requests.map((request) => this.begin(request, asOfMs, controls, commands, parts));
    // Control hashes alone are not asked for.
    if (commands.length === controls.size) return readings.map(({ values }) => ({ values, degraded: null }));
    await this.connection.demand(commands);
    let open = parts.filter(({ done }) => !done);
    for (let trip = 1; open.length > 0; trip++) {
      if (trip === MAX_TRIPS) {
        throw new FreshetError("read_overtaken", "folding overtook a read five times", { repair: "send it again" });
      }
      await this.connection.demand(open.map((part) => this.commandOf(part, asOfMs)));
      open = open.filter(({ done }) => !done);
    }
    const degraded = new Map<BucketControl, string | null>();
    for (const control of controls.values()) {
      // Known for as long as the connection stands, so it costs no trip.
      const run = this.connection.knownRun(control.key) ?? runBytes(await this.connection.runId(control.key));
      degraded.set(control, degradedBy(control, run));
    }
    return readings.map(({ control, hasPushed, values }) => ({
      values,
      degraded: degraded.get(control) ?? (hasPushed && !this.hasAllPushed(control) ? "restoring_pushed" : null),
    }));
  }

  /** Adds what a request asks for, its bucket's control hash first where nobody has asked for it. */
  private begin(
    request: EntityRequest,
    asOfMs: number,
    controls: Map<number, BucketControl>,
    commands: Command[],
    parts: Part[],
  ): Reading {
    const { tenant, entity, id } = request;
    const bucket = bucketOf(tenant, entity, id);
    const { sets, pushed } = this.sets.of(request);
    let control = controls.get(bucket);
    if (control === undefined) {
      control = { key: controlKey(bucket), fields: null };
      controls.set(bucket, control);
      // Before its entities: a failover that is cleared between the two is told in vain, and never kept silent of an older state.
      commands.push(this.controlCommand(control));
    }
    const reading: Reading = { control, hasPushed: pushed !== null, values: new Array(request.features.length) };
    for (const set of sets) {
      const key = entityKey(bucket, tenant, entity, set.group.stream, id);
      const ask = this.large.has(key) ? this.guess(set, asOfMs) : "small";
      const part: Part = { reading, set, key, ask, done: false };
      parts.push(part);
      commands.push(this.commandOf(part, asOfMs));
    }
    if (pushed !== null) {
      const key = pushedKey(bucket, tenant, entity, id);
      const take = (answer: unknown): void => {
        const fields = answer as (Buffer | null)[];
        pushed.evaluate(fields, asOfMs, reading.values, this.hasAllPushed(reading.control));
      };
      commands.push({ key, name: "HMGET", args: [key], tail: pushed.encoded, take });
    }
    return reading;
  }

  /** What to ask of a large hash before it is known how far it is folded: busy ones are, up to the seal. */
  private guess(set: FeatureSet, asOfMs: number): Ask {
    return set.planFor(asOfMs, this.sealOf(set, asOfMs), null) ?? "whole";
  }

  primaryOf({ tenant, entity, id }: Pick<EntityRequest, "tenant" | "entity" | "id">): string {
    return this.connection.isCluster ? this.connection.primaryOf(controlKey(bucketOf(tenant, entity, id))) : "";
  }

  async state(): Promise<StoreState> {
    const fields = controlFields(this.plan);
    try {
      // All buckets, since a node may have lost its part of them: one pipeline, a few ms.
      const answers = await this.connection.demand(
        Array.from({ length: BUCKETS }, (_, bucket) => {
          const key = controlKey(bucket);
          return { key, name: "HMGET", args: [key, ...fields] };
        }),
      );
      const seals: Record<string, number> = {};
      const found = new Set<StoreState["control"]>();
      for (const [bucket, answer] of answers.entries()) {
        const [control, ...rest] = answer as (Buffer | null)[];
        this.plan.groups.forEach(({ stream, baseMs }, i) => {
          const raw = rest[i];
          // The least of all buckets: what the whole store has sealed.
          if (raw) seals[stream] = Math.min(seals[stream] ?? Number.POSITIVE_INFINITY, raw.readUInt32LE(0) * baseMs);
        });
        if (control) found.add(await this.controlOf(bucket, control));
        else found.add("lost");
        if (rest[this.plan.groups.length]) found.add("restoring_pushed");
      }
      const worst = WORST_FIRST.find((state) => found.has(state)) ?? "ok";
      const nodes = await this.connection.primaries();
      // Whoever may not ask for it goes without: that the store answers is known.
      const full = await Promise.all(nodes.map((node) => node.info("memory").then(isFull, () => false)));
      return { reachable: true, control: worst, full: full.includes(true), seals };
    } catch {
      return { reachable: false, control: "unknown", seals: {} };
    }
  }

  private async controlOf(bucket: number, control: Buffer): Promise<StoreState["control"]> {
    const { state, run } = decodeControl(control);
    if (state !== "ok") return toldState(state);
    return runBytes(await this.connection.runId(controlKey(bucket))).equals(run) ? "ok" : "failover";
  }

  close(): Promise<void> {
    return this.connection.close();
  }

  /** The seal as far as it is known. */
  private sealOf({ group }: FeatureSet, asOfMs: number): number {
    const oldest = floorTo(asOfMs - this.latenessMs.get(group.stream)! - GUESS_LAG_MS, group.baseMs);
    return Math.max(this.seals.get(group.id) ?? 0, oldest);
  }

  private controlCommand(control: BucketControl): Command {
    const { key } = control;
    const take = (answer: unknown): void => {
      control.fields = answer as (Buffer | null)[];
      this.learnSeals(control.fields);
    };
    return { key, name: "HMGET", args: [key], tail: this.controlFields, take };
  }

  private commandOf(part: Part, asOfMs: number): Command {
    const { key, ask } = part;
    const take = (answer: unknown): void => this.settle(part, answer as Buffer[], asOfMs);
    if (ask === "small") return { key, name: "HSCAN", args: [key], tail: ONE_STEP, take };
    if (ask === "whole") return { key, name: "HGETALL", args: [key], take };
    return { key, name: "HMGET", args: [key], tail: ask.encoded, take };
  }

  /** Takes one answer in: evaluated, or with something else to ask for. */
  private settle(part: Part, answer: readonly Buffer[], asOfMs: number): void {
    const { ask, set } = part;
    if (ask === "whole") this.evaluate(part, set.whole(answer, asOfMs), asOfMs);
    else if (ask !== "small") this.settleFields(part, ask, answer, asOfMs);
    else {
      const [cursor, items] = answer as unknown as [Buffer, Buffer[]];
      if (cursor.length === 1 && cursor[0] === ZERO) this.evaluate(part, set.whole(items, asOfMs), asOfMs);
      else {
        if (this.large.size >= LARGE_LIMIT) this.large.clear();
        this.large.add(part.key);
        part.ask = this.guess(set, asOfMs);
      }
    }
  }

  /** @param values aligned with the fields of what was asked for */
  private settleFields(part: Part, asked: ReadPlan, values: readonly (Buffer | null)[], asOfMs: number): void {
    const { set } = part;
    const meta = values[0] ? decodeMeta(values[0]) : null;
    // Without it there is no hash: every value is missing, whatever the fields.
    const foldedMs = (meta?.folded ?? 0) * set.group.baseMs;
    const newestMs = meta?.newest[0] ?? 0;
    if (meta === null) this.evaluate(part, null, asOfMs);
    else if (asked.fits(set.extent(foldedMs, newestMs))) this.evaluate(part, { plan: asked, values, meta }, asOfMs);
    // Folded otherwise than it was guessed, or folded meanwhile.
    else part.ask = set.planFor(asOfMs, foldedMs, newestMs) ?? "whole";
  }

  /** @param hash null for none */
  private evaluate(part: Part, hash: WholeHash | null, asOfMs: number): void {
    const { set, reading } = part;
    const raw = reading.control.fields?.[set.groupIndex + 1] ?? null;
    const eventTimeMs = hash === null ? null : newestVisible(hash.meta.newest, set.group.baseMs, asOfMs);
    set.evaluate(hash?.plan ?? null, hash?.values ?? [], eventTimeMs, asOfMs, raw, reading.values);
    part.done = true;
  }

  private learnSeals(control: readonly (Buffer | null)[]): void {
    const { groups } = this.plan;
    for (let g = 0; g < groups.length; g++) {
      const raw = control[g + 1];
      if (!raw) continue;
      const { id, baseMs } = groups[g];
      this.seals.set(id, Math.max(this.seals.get(id) ?? 0, raw.readUInt32LE(0) * baseMs));
    }
  }

  private hasAllPushed({ fields }: BucketControl): boolean {
    return fields?.[0] !== null && !fields?.[this.plan.groups.length + 1];
  }
}

/** @param current run id of the bucket's primary */
function degradedBy({ fields }: BucketControl, current: Buffer): string | null {
  if (!fields?.[0]) return "lost";
  const { state, run } = decodeControl(fields[0]);
  if (state !== "ok") return toldState(state);
  // Another primary than the one that is known as whole: nothing has been applied to the bucket yet that would mark it.
  return current.equals(run) ? null : "failover";
}

/** What is read of a control hash: its head, the groups' in the plan's order, and the mark of what is missing. */
const controlFields = ({ groups }: Plan): string[] => [
  CONTROL_FIELD,
  ...groups.map(({ name }) => groupField(name)),
  PUSHED_MISSING_FIELD,
];

/** What was refused for lack of memory is freed again, so that a full store is seen a little below its limit. */
const FULL_SHARE = 0.98;

/** @param memory section of INFO; without a limit there is none to be at */
function isFull(memory: string): boolean {
  const [used, uncounted, limit] = ["used_memory", "mem_not_counted_for_evict", "maxmemory"].map((name) =>
    Number(new RegExp(`^${name}:(\\d+)`, "m").exec(memory)?.[1] ?? 0),
  ) as [number, number, number];
  return limit > 0 && used - uncounted >= FULL_SHARE * limit;
}

const WORST_FIRST = ["lost", "new", "restoring", "failover", "restoring_pushed"] as const;

/** From the beginning of a hash on, and as little as can be asked for: all of one in the compact encoding. */
const ONE_STEP = encodeArguments([0, "COUNT", 1]);

/** The cursor of a scan that has seen everything. */
const ZERO = "0".charCodeAt(0);
