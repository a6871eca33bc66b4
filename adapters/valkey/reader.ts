/**
 * The read side of the online store. Fields are computed, not listed: for a base tile and a seal they are the same for
 * every entity, so they are worked out once a minute and each entity costs one HMGET.
 */
import { FreshetError } from "../../core/errors.ts";
import type { FeatureValue, Plan } from "../../core/plan.ts";
import { newestVisible } from "../../core/tiles.ts";
import { floorTo } from "../../core/window.ts";
import type { EntityAnswer, EntityRequest, OnlineReader, StoreState } from "../online-store.ts";
import { type Command, commandError, ValkeyConnection, type ValkeyOptions } from "./connection.ts";
import { FeatureSet, type ReadPlan } from "./feature-set.ts";
import {
  BUCKETS,
  bucketOf,
  CONTROL_FIELD,
  controlKey,
  decodeControl,
  decodeMeta,
  entityKey,
  groupField,
  META_FIELD,
  type Meta,
  runBytes,
} from "./layout.ts";

/** A read that is overtaken by folds this often is not going to settle. */
const MAX_TRIPS = 5;
/** A seal further behind than this is not guessed: entities that lag so far take a second trip, for just what they have. */
const GUESS_LAG_MS = 900_000;
const SETS_LIMIT = 1_000;

/** A bucket's control hash, and the run id of the primary that answered it. */
interface BucketControl {
  readonly fields: readonly (Buffer | null)[];
  readonly run: Buffer;
}

interface Part {
  readonly request: number;
  readonly set: FeatureSet;
  readonly key: string;
  readonly bucket: number;
  /** Null: the hash is read whole. */
  plan: ReadPlan | null;
  /** Answered fields after the meta field, or null for a hash that does not exist. */
  values: (Buffer | null)[];
  meta: Meta | null;
  done: boolean;
}

export function createReader(plan: Plan, options: ValkeyOptions): OnlineReader {
  return new ValkeyReader(plan, new ValkeyConnection({ timeoutMs: 250, waitMs: 0, ...options }));
}

class ValkeyReader implements OnlineReader {
  private readonly plan: Plan;
  private readonly connection: ValkeyConnection;
  private readonly sets = new Map<string, FeatureSet[]>();
  /** Newest seal seen for each group, in ms: the guess for where an entity is folded to. */
  private readonly seals = new Map<number, number>();

  constructor(plan: Plan, connection: ValkeyConnection) {
    this.plan = plan;
    this.connection = connection;
  }

  async read(requests: readonly EntityRequest[], asOfMs: number): Promise<readonly EntityAnswer[]> {
    const parts: Part[] = [];
    const setsOf = requests.map((request) => this.setsFor(request));
    requests.forEach(({ tenant, entity, id }, request) => {
      const bucket = bucketOf(tenant, entity, id);
      for (const set of setsOf[request]) {
        const key = entityKey(bucket, tenant, entity, set.group.stream, id);
        const plan = set.planFor(asOfMs, this.guess(set, asOfMs), null);
        parts.push({ request, set, key, bucket, plan, values: [], meta: null, done: false });
      }
    });
    const controls = new Map<number, BucketControl>();
    for (let trip = 0; trip < MAX_TRIPS; trip++) {
      const open = parts.filter(({ done }) => !done);
      if (open.length === 0) break;
      await this.trip(open, trip === 0 ? controls : null, asOfMs);
    }
    if (parts.some(({ done }) => !done)) {
      throw new FreshetError("read_overtaken", "folding overtook a read five times", { repair: "send it again" });
    }
    return requests.map((request, index) => {
      const own = parts.filter((part) => part.request === index);
      return this.answer(request, own, own.length > 0 ? controls.get(own[0].bucket)! : null, asOfMs);
    });
  }

  async state(): Promise<StoreState> {
    const fields = [CONTROL_FIELD, ...this.plan.groups.map(({ name }) => groupField(name))];
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
        const [control, ...groups] = answer as (Buffer | null)[];
        groups.forEach((raw, i) => {
          const { stream, baseMs } = this.plan.groups[i];
          // The least of all buckets: what the whole store has sealed.
          if (raw) seals[stream] = Math.min(seals[stream] ?? Number.POSITIVE_INFINITY, raw.readUInt32LE(0) * baseMs);
        });
        if (control) found.add(await this.controlOf(bucket, control));
        else found.add("lost");
      }
      const worst = (["lost", "new", "restoring", "failover"] as const).find((state) => found.has(state)) ?? "ok";
      return { reachable: true, control: worst, repair: worst === "ok" ? null : REPAIRS[worst], seals };
    } catch {
      return {
        reachable: false,
        control: "unknown",
        repair: "start Valkey; callers reconnect by themselves",
        seals: {},
      };
    }
  }

  private async controlOf(bucket: number, control: Buffer): Promise<StoreState["control"]> {
    const { state, run } = decodeControl(control);
    if (state !== "ok") return state;
    return runBytes(await this.connection.runId(controlKey(bucket))).equals(run) ? "ok" : "failover";
  }

  close(): Promise<void> {
    return this.connection.close();
  }

  private guess(set: FeatureSet, asOfMs: number): number {
    const stream = this.plan.streams.find(({ name }) => name === set.group.stream)!;
    const oldest = floorTo(asOfMs - stream.allowedLatenessMs - GUESS_LAG_MS, set.group.baseMs);
    return Math.max(this.seals.get(set.group.id) ?? 0, oldest);
  }

  /** The request's features by group, compiled once for each distinct list. */
  private setsFor({ entity, features }: EntityRequest): FeatureSet[] {
    const name = `${entity}\n${features.join("\n")}`;
    let sets = this.sets.get(name);
    if (!sets) {
      if (this.sets.size >= SETS_LIMIT) this.sets.clear();
      sets = FeatureSet.split(this.plan, entity, features);
      this.sets.set(name, sets);
    }
    return sets;
  }

  private async trip(
    parts: readonly Part[],
    controls: Map<number, BucketControl> | null,
    asOfMs: number,
  ): Promise<void> {
    const commands: Command[] = parts.map(({ key, plan }) =>
      plan === null ? { key, name: "HGETALL", args: [key] } : { key, name: "HMGET", args: [key, ...plan.fields] },
    );
    const buckets = controls === null ? [] : [...new Set(parts.map(({ bucket }) => bucket))];
    const groups = this.plan.groups.map(({ name }) => groupField(name));
    for (const bucket of buckets) {
      const key = controlKey(bucket);
      commands.push({ key, name: "HMGET", args: [key, CONTROL_FIELD, ...groups] });
    }
    const answers = await this.connection.run(commands);
    for (const answer of answers) if (answer instanceof Error) throw commandError(answer);
    for (const [i, bucket] of buckets.entries()) {
      const fields = answers[parts.length + i] as (Buffer | null)[];
      // Known for as long as the connection stands, so it costs no trip.
      controls!.set(bucket, { fields, run: runBytes(await this.connection.runId(controlKey(bucket))) });
      this.plan.groups.forEach(({ id, baseMs }, g) => {
        const raw = fields[g + 1];
        if (raw) this.seals.set(id, Math.max(this.seals.get(id) ?? 0, raw.readUInt32LE(0) * baseMs));
      });
    }
    parts.forEach((part, i) => {
      settle(part, answers[i] as (Buffer | null)[], asOfMs);
    });
  }

  private answer(
    request: EntityRequest,
    parts: readonly Part[],
    control: BucketControl | null,
    asOfMs: number,
  ): EntityAnswer {
    const found = new Map<string, FeatureValue>();
    for (const { set, plan, values, meta } of parts) {
      const raw = control?.fields[this.plan.groups.indexOf(set.group) + 1] ?? null;
      const eventTimeMs = meta === null ? null : newestVisible(meta.newest, set.group.baseMs, asOfMs);
      set.evaluate(plan!, values, eventTimeMs, asOfMs, raw, found);
    }
    return { values: request.features.map((name) => found.get(name)!), degraded: degradedBy(control) };
  }
}

/** Takes one answer in: done, or with the plan for another trip, now that it is known how far the entity is folded. */
function settle(part: Part, answer: (Buffer | null)[], asOfMs: number): void {
  const { set } = part;
  let values = answer;
  let fields: Buffer[] | null = null;
  if (part.plan === null) {
    fields = [META_FIELD];
    values = [null];
    for (let i = 0; i < answer.length; i += 2) {
      if (META_FIELD.equals(answer[i]!)) values[0] = answer[i + 1];
      else {
        fields.push(answer[i]!);
        values.push(answer[i + 1]);
      }
    }
  }
  part.values = values;
  part.meta = values[0] ? decodeMeta(values[0]) : null;
  if (part.meta === null) {
    // No hash: every value is missing, whatever the fields.
    part.plan ??= set.planForWhole([META_FIELD], asOfMs, 0, 0);
    part.done = true;
    return;
  }
  const foldedMs = part.meta.folded * set.group.baseMs;
  const newestMs = part.meta.newest[0] ?? 0;
  if (fields !== null) {
    part.plan = set.planForWhole(fields, asOfMs, foldedMs, newestMs);
    part.done = true;
    return;
  }
  const exact = set.planFor(asOfMs, foldedMs, newestMs);
  if (exact !== null && part.plan!.holds(exact)) {
    part.plan = part.plan === exact ? exact : part.plan!.narrowedTo(exact);
    part.done = true;
  } else part.plan = exact;
}

const REPAIRS = {
  lost: "applies are blocked and nothing acknowledged is lost: run `freshet recover`",
  new: "the store is being created: wait for the control function's next run, within a minute",
  restoring: "the store is being rebuilt: wait, `freshet status` shows its progress",
  failover: "another primary answers and may lack the newest writes: run `freshet recover`, which replays them",
} as const;

function degradedBy(control: BucketControl | null): string | null {
  if (control === null) return null;
  if (!control.fields[0]) return "lost";
  const { state, run } = decodeControl(control.fields[0]);
  if (state !== "ok") return state;
  // Another primary than the one that is known as whole: nothing has been applied to the bucket yet that would mark it.
  return control.run.equals(run) ? null : "failover";
}
