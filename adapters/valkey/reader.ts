/**
 * The read side of the online store: one command an entity. Most entities' hashes are small and in the server's compact
 * encoding, where each field that HMGET names is a walk through all that is there; HSCAN walks once and answers everything.
 * Of a hash that has outgrown that encoding it answers next to nothing; then fields are named, which costs little there.
 * They are computed, not listed: for a base tile and a seal the same for every entity, so worked out once a minute.
 */
import { FreshetError } from "../../core/errors.ts";
import type { FeatureValue, Plan } from "../../core/plan.ts";
import { newestVisible } from "../../core/tiles.ts";
import { floorTo } from "../../core/window.ts";
import type { EntityAnswer, EntityRequest, OnlineReader, StoreState } from "../online-store.ts";
import { type Command, commandError, ValkeyConnection, type ValkeyOptions } from "./connection.ts";
import type { FeatureSet } from "./feature-set.ts";
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
  type Meta,
  PUSHED_MISSING_FIELD,
  pushedKey,
  runBytes,
  toldState,
} from "./layout.ts";
import type { PushedSet } from "./pushed-set.ts";
import type { ReadPlan } from "./read-plan.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

/** A read that is overtaken by folds this often is not going to settle. */
const MAX_TRIPS = 5;
/** A seal further behind than this is not guessed: entities that lag so far take a second trip, for just what they have. */
const GUESS_LAG_MS = 900_000;
/** Keys of hashes that are known to be large. */
const LARGE_LIMIT = 100_000;

/** A bucket's control hash, and the run id of the primary that answered it. */
interface BucketControl {
  readonly fields: readonly (Buffer | null)[];
  readonly run: Buffer;
}

/** All of a small hash; the fields that a plan names; or all of any hash, when a plan would name too many. */
type Ask = "small" | "whole" | ReadPlan;

interface Part {
  readonly set: FeatureSet;
  readonly key: string;
  ask: Ask;
  /** Of what was asked for, or of what was picked from it; null before there is an answer, and for no hash. */
  plan: ReadPlan | null;
  /** Aligned with the plan's fields. */
  values: readonly (Buffer | null)[];
  meta: Meta | null;
  done: boolean;
}

/** What was pushed for an entity; one trip answers it. */
interface PushedPart {
  readonly set: PushedSet;
  readonly key: string;
  fields: readonly (Buffer | null)[];
}

/** The parts of one request: one for each stream behind its features, and one for what was pushed. */
interface Reading {
  readonly request: EntityRequest;
  readonly bucket: number;
  readonly parts: readonly Part[];
  readonly pushed: PushedPart | null;
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
    const readings = requests.map((request) => this.begin(request, asOfMs));
    const controls = new Map<number, BucketControl>();
    const pushed = readings.flatMap((reading) => reading.pushed ?? []);
    let open = readings.flatMap(({ parts }) => parts);
    for (let trip = 0; open.length > 0 || (trip === 0 && pushed.length > 0); trip++) {
      if (trip === MAX_TRIPS) {
        throw new FreshetError("read_overtaken", "folding overtook a read five times", { repair: "send it again" });
      }
      const buckets = trip > 0 ? [] : [...new Set(readings.map(({ bucket }) => bucket))];
      await this.trip(open, trip > 0 ? [] : pushed, buckets, controls, asOfMs);
      open = open.filter(({ done }) => !done);
    }
    return readings.map((reading) => this.answer(reading, controls.get(reading.bucket) ?? null, asOfMs));
  }

  private begin(request: EntityRequest, asOfMs: number): Reading {
    const { tenant, entity, id } = request;
    const bucket = bucketOf(tenant, entity, id);
    const { sets, pushed } = this.sets.of(request);
    const parts = sets.map(
      (set): Part => ({
        set,
        key: entityKey(bucket, tenant, entity, set.group.stream, id),
        ask: "small",
        plan: null,
        values: [],
        meta: null,
        done: false,
      }),
    );
    for (const part of parts) if (this.large.has(part.key)) part.ask = this.guess(part.set, asOfMs);
    const key = pushed === null ? "" : pushedKey(bucket, tenant, entity, id);
    return { request, bucket, parts, pushed: pushed === null ? null : { set: pushed, key, fields: [] } };
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
      return { reachable: true, control: worst, seals };
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

  /** Reads open parts, what was pushed, and the control hashes of `buckets` into `controls`. */
  private async trip(
    parts: readonly Part[],
    pushed: readonly PushedPart[],
    buckets: readonly number[],
    controls: Map<number, BucketControl>,
    asOfMs: number,
  ): Promise<void> {
    // Control first: a failover that is cleared between the two is told in vain, and never kept silent of an older state.
    const commands: Command[] = buckets.map((bucket) => {
      const key = controlKey(bucket);
      return { key, name: "HMGET", args: [key], tail: this.controlFields };
    });
    for (const { key, ask } of parts) commands.push(commandOf(key, ask));
    for (const { key, set } of pushed) commands.push({ key, name: "HMGET", args: [key], tail: set.encoded });
    const answers = await this.connection.run(commands);
    for (const answer of answers) if (answer instanceof Error) throw commandError(answer);
    for (const [i, bucket] of buckets.entries()) {
      const fields = answers[i] as (Buffer | null)[];
      const key = controlKey(bucket);
      // Known for as long as the connection stands, so it costs no trip.
      const run = this.connection.knownRun(key) ?? runBytes(await this.connection.runId(key));
      controls.set(bucket, { fields, run });
      this.learnSeals(fields);
    }
    parts.forEach((part, i) => {
      this.settle(part, answers[buckets.length + i] as Buffer[], asOfMs);
    });
    pushed.forEach((part, i) => {
      part.fields = answers[buckets.length + parts.length + i] as (Buffer | null)[];
    });
  }

  /** Takes one answer in: done, or with something else to ask for. */
  private settle(part: Part, answer: readonly Buffer[], asOfMs: number): void {
    if (part.ask === "whole") settleWhole(part, answer, asOfMs);
    else if (part.ask !== "small") settleFields(part, part.ask, answer, asOfMs);
    else {
      const [cursor, items] = answer as unknown as [Buffer, Buffer[]];
      if (cursor.length === 1 && cursor[0] === ZERO) settleWhole(part, items, asOfMs);
      else {
        if (this.large.size >= LARGE_LIMIT) this.large.clear();
        this.large.add(part.key);
        part.ask = this.guess(part.set, asOfMs);
      }
    }
  }

  private learnSeals(control: readonly (Buffer | null)[]): void {
    this.plan.groups.forEach(({ id, baseMs }, g) => {
      const raw = control[g + 1];
      if (raw) this.seals.set(id, Math.max(this.seals.get(id) ?? 0, raw.readUInt32LE(0) * baseMs));
    });
  }

  private answer({ request, parts, pushed }: Reading, control: BucketControl | null, asOfMs: number): EntityAnswer {
    const values: FeatureValue[] = new Array(request.features.length);
    for (const { set, plan, values: fields, meta } of parts) {
      const raw = control?.fields[set.groupIndex + 1] ?? null;
      const eventTimeMs = meta === null ? null : newestVisible(meta.newest, set.group.baseMs, asOfMs);
      set.evaluate(plan, fields, eventTimeMs, asOfMs, raw, values);
    }
    const isWhole = control?.fields[0] !== null && !control?.fields[this.plan.groups.length + 1];
    pushed?.set.evaluate(pushed.fields, asOfMs, values, isWhole);
    return { values, degraded: degradedBy(control) ?? (pushed === null || isWhole ? null : "restoring_pushed") };
  }
}

/** What is read of a control hash: its head, the groups' in the plan's order, and the mark of what is missing. */
const controlFields = ({ groups }: Plan): string[] => [
  CONTROL_FIELD,
  ...groups.map(({ name }) => groupField(name)),
  PUSHED_MISSING_FIELD,
];

const WORST_FIRST = ["lost", "new", "restoring", "failover", "restoring_pushed"] as const;

/** The cursor of a scan that has seen everything. */
const ZERO = "0".charCodeAt(0);

function commandOf(key: string, ask: Ask): Command {
  if (ask === "small") return { key, name: "HSCAN", args: [key, 0, "COUNT", 1] };
  if (ask === "whole") return { key, name: "HGETALL", args: [key] };
  return { key, name: "HMGET", args: [key], tail: ask.encoded };
}

/** @param values aligned with the fields of what was asked for */
function settleFields(part: Part, asked: ReadPlan, values: readonly (Buffer | null)[], asOfMs: number): void {
  const { set } = part;
  part.plan = asked;
  part.values = values;
  part.meta = values[0] ? decodeMeta(values[0]) : null;
  // No hash: every value is missing, whatever the fields.
  part.done = part.meta === null;
  if (part.meta === null) return;
  const foldedMs = part.meta.folded * set.group.baseMs;
  const newestMs = part.meta.newest[0] ?? 0;
  part.done = asked.fits(set.extent(foldedMs, newestMs));
  // Folded otherwise than it was guessed, or folded meanwhile.
  if (!part.done) part.ask = set.planFor(asOfMs, foldedMs, newestMs) ?? "whole";
}

/** @param items fields and values in turn */
function settleWhole(part: Part, items: readonly Buffer[], asOfMs: number): void {
  part.done = true;
  const whole = part.set.whole(items, asOfMs);
  if (whole !== null) Object.assign(part, whole);
}

function degradedBy(control: BucketControl | null): string | null {
  if (control === null) return null;
  if (!control.fields[0]) return "lost";
  const { state, run } = decodeControl(control.fields[0]);
  if (state !== "ok") return toldState(state);
  // Another primary than the one that is known as whole: nothing has been applied to the bucket yet that would mark it.
  return control.run.equals(run) ? null : "failover";
}
