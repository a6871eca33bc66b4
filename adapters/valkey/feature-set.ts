/** Features of one group that are read together: which fields they need at an instant, and their values from those. */

import { FreshetError } from "../../core/errors.ts";
import { type ByAge, isObject, type State } from "../../core/operators/accumulators.ts";
import { type LowerOptions, OPERATORS } from "../../core/operators/operators.ts";
import type { Feature, FeatureValue, Group, Plan, View } from "../../core/plan.ts";
import { withStatus } from "../../core/tiles/tiles.ts";
import { floorTo, windowInterval } from "../../core/tiles/window.ts";
import { decodeGroupControl, decodeMeta, META_FIELD, type Meta } from "./layout.ts";
import { type Extent, type Need, planRead, planWhole, type ReadPlan } from "./read-plan.ts";
import { Answered, stateAt, stateByAge } from "./tile-states.ts";

/** Extents of one minute that plans are kept for. */
const EXTENTS_LIMIT = 1_024;

interface Member {
  readonly feature: Feature;
  readonly view: View;
  /** Place in the list that the set was split from. */
  readonly position: number;
  /** Which of the set's needs its operator combines. */
  readonly needs: readonly number[];
}

export interface WholeHash {
  readonly plan: ReadPlan;
  /** Aligned with the plan's fields. */
  readonly values: readonly (Buffer | null)[];
  readonly meta: Meta;
}

export class FeatureSet {
  readonly group: Group;
  /** Place of the group in the plan. */
  readonly groupIndex: number;
  private readonly members: readonly Member[];
  private readonly needs: readonly Need[];
  /** Plans of one base tile, by how far an entity is folded. */
  private plans = { head: -1, byFolded: new Map<number, ReadPlan | null>() };
  /** Where each member's window begins in one base tile; its hop is a multiple of the base. */
  private starts = { head: -1, ms: [] as readonly number[] };
  private readiness: { control: Buffer | null; bornMs: readonly number[] } | null = null;

  private constructor(
    plan: Plan,
    groupIndex: number,
    features: readonly { feature: Feature; view: View; position: number }[],
  ) {
    this.group = plan.groups[groupIndex];
    this.groupIndex = groupIndex;
    const needs = new Map<string, Need>();
    const order: string[] = [];
    this.members = features.map((member) => {
      const { window, slots } = member.feature;
      const own = slots.map((slot) => {
        const name = `${slot} ${JSON.stringify(window)}`;
        if (!needs.has(name)) {
          needs.set(name, { slot: this.group.slots[slot], window });
          order.push(name);
        }
        return order.indexOf(name);
      });
      return { ...member, needs: own };
    });
    this.needs = [...needs.values()];
  }

  /** The features of one entity by group. @throws FreshetError `feature_unknown` */
  static split(
    plan: Plan,
    entity: string,
    names: readonly string[],
    registered: readonly { readonly position: number }[] | null = null,
  ): FeatureSet[] {
    const byGroup = new Map<number, { feature: Feature; view: View; position: number }[]>();
    const taken = new Set(registered?.map(({ position }) => position));
    names.forEach((name, position) => {
      if (taken.has(position)) return;
      // Of a batch view: `pushed-set.ts`.
      if (
        plan.batchViews.some((batch) => batch.entity === entity && batch.features.some((each) => each.name === name))
      ) {
        return;
      }
      const view = plan.views.find((candidate) => name.startsWith(`${candidate.name}:`));
      const feature = view?.features.find((candidate) => candidate.name === name);
      if (!view || !feature || view.entity !== entity) {
        throw new FreshetError("feature_unknown", `entity ${entity} has no feature ${name}`, {
          field: "features",
          repair: "GET /v1/features/{entity}/{id} lists what there is",
        });
      }
      const list = byGroup.get(view.group);
      if (list) list.push({ feature, view, position });
      else byGroup.set(view.group, [{ feature, view, position }]);
    });
    return [...byGroup].map(([index, features]) => new FeatureSet(plan, index, features));
  }

  /**
   * The plan for an entity that is folded up to `foldedMs`.
   * @param newestMs its newest event time, used where there would be too many fields without it; null when it is not known
   * @returns null when there are too many all the same: take the hash whole, then `planWhole`
   */
  planFor(asOfMs: number, foldedMs: number, newestMs: number | null): ReadPlan | null {
    const { group, needs } = this;
    const head = Math.floor(asOfMs / group.baseMs);
    if (this.plans.head !== head || this.plans.byFolded.size >= EXTENTS_LIMIT) {
      this.plans = { head, byFolded: new Map() };
    }
    const { byFolded } = this.plans;
    let plan = byFolded.get(foldedMs);
    if (plan === undefined) {
      plan = planRead(group, needs, asOfMs, { foldedMs, stopMs: Number.POSITIVE_INFINITY });
      byFolded.set(foldedMs, plan);
    }
    if (plan !== null || newestMs === null) return plan;
    return planRead(group, needs, asOfMs, this.extent(foldedMs, newestMs));
  }

  /** A plan over all fields of a hash. */
  private planWhole(fields: readonly Buffer[], asOfMs: number, foldedMs: number, newestMs: number): ReadPlan {
    return planWhole(this.group, this.needs, asOfMs, this.extent(foldedMs, newestMs), fields);
  }

  /**
   * What `evaluate` takes of an entity whose hash is known as a whole.
   * @param items fields and values in turn
   * @returns null for no hash
   */
  whole(items: readonly Buffer[], asOfMs: number): WholeHash | null {
    let raw: Buffer | null = null;
    for (let i = 0; i < items.length && raw === null; i += 2) if (isMeta(items[i])) raw = items[i + 1];
    if (raw === null) return null;
    const meta = decodeMeta(raw);
    const foldedMs = meta.folded * this.group.baseMs;
    const newestMs = meta.newest[0] ?? 0;
    const plan =
      this.planFor(asOfMs, foldedMs, newestMs) ??
      this.planWhole(
        items.filter((_, i) => i % 2 === 0),
        asOfMs,
        foldedMs,
        newestMs,
      );
    return { plan, values: plan.pick(items), meta };
  }

  extent(foldedMs: number, newestMs: number): Extent {
    return { foldedMs, stopMs: floorTo(newestMs, this.group.baseMs) + this.group.baseMs };
  }

  /**
   * Computes all features of the set, each into its place.
   * @param plan null for an entity without a hash
   * @param eventTimeMs newest event time that can be seen; null for none
   */
  evaluate(
    plan: ReadPlan | null,
    values: readonly (Buffer | null)[],
    eventTimeMs: number | null,
    asOfMs: number,
    control: Buffer | null,
    into: FeatureValue[],
  ): void {
    const bornMs = this.bornMs(control);
    const startsMs = this.startsMs(asOfMs);
    const { members } = this;
    const states = plan === null || eventTimeMs === null ? [] : this.statesOf(plan, values);
    for (let m = 0; m < members.length; m++) {
      const { feature, view, position, needs: own } = members[m];
      const ready = startsMs[m] >= bornMs[m];
      if (eventTimeMs === null || !ready) {
        into[position] = withStatus(view, null, eventTimeMs, asOfMs, ready);
        continue;
      }
      const { scale, parameter, sample, window } = feature;
      const options: LowerOptions = { scale, parameter, sample, window, asOfMs };
      const value = OPERATORS[feature.operator].lower(
        own.length === 1 ? [states[own[0]]] : own.map((need) => states[need]),
        options,
      );
      into[position] = withStatus(view, value, eventTimeMs, asOfMs, true);
    }
  }

  private statesOf({ positions, ages }: ReadPlan, values: readonly (Buffer | null)[]): (State | ByAge)[] {
    const answered = new Answered(values);
    const states = new Array(this.needs.length);
    for (let n = 0; n < states.length; n++) {
      const { slot } = this.needs[n];
      const byAge = ages[n];
      states[n] =
        byAge === null ? stateAt(slot, positions[n], answered) : stateByAge(slot, positions[n], byAge, answered);
    }
    return states;
  }

  private startsMs(asOfMs: number): readonly number[] {
    const head = Math.floor(asOfMs / this.group.baseMs);
    if (this.starts.head !== head) {
      const ms = this.members.map(({ feature: { window } }) =>
        window.kind === "lifetime" ? 0 : windowInterval(window, this.group.baseMs, asOfMs).startMs,
      );
      this.starts = { head, ms };
    }
    return this.starts.ms;
  }

  /** From when on each feature counts everything; 0 when its slots are as old as the stream. */
  private bornMs(control: Buffer | null): readonly number[] {
    if (this.readiness === null || !sameBirths(this.readiness.control, control)) {
      const births = control === null ? [] : decodeGroupControl(control).births;
      const bornMs = this.members.map(({ feature }) =>
        Math.max(
          ...feature.slots.map((index) => {
            const slot = this.group.slots[index];
            const birth = births.find((b) => b.slot === slot.id && b.object === isObject(slot.kind));
            return birth === undefined ? Number.POSITIVE_INFINITY : birth.baseIndex * this.group.baseMs;
          }),
        ),
      );
      // A copy: the answer's own bytes are a piece of a much larger buffer.
      this.readiness = { control: control === null ? null : Buffer.from(control), bornMs };
    }
    return this.readiness.bornMs;
  }
}

const isMeta = (field: Buffer): boolean => field.length === 1 && field[0] === META_FIELD[0];

/** Beside the seal, the first four bytes. */
function sameBirths(a: Buffer | null, b: Buffer | null): boolean {
  if (a === null || b === null) return a === b;
  return a.length === b.length && a.compare(b, 4, b.length, 4) === 0;
}
