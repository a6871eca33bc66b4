/** Features of one group that are read together: which fields they need at an instant, and their values from those. */
import { isObject } from "../../core/accumulators.ts";
import { FreshetError } from "../../core/errors.ts";
import { type LowerOptions, OPERATORS } from "../../core/operators.ts";
import type { Feature, FeatureValue, Group, Plan, View } from "../../core/plan.ts";
import { withStatus } from "../../core/tiles.ts";
import { floorTo, windowInterval } from "../../core/window.ts";
import { decodeGroupControl } from "./layout.ts";
import { type Extent, type Need, planRead, planWhole, type ReadPlan } from "./read-plan.ts";
import { Answered, stateAt } from "./tile-states.ts";

/** An entity that was folded at most this long before the seal is read in one trip. */
const LAG_MS = 600_000;
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

export class FeatureSet {
  readonly group: Group;
  /** Place of the group in the plan. */
  readonly groupIndex: number;
  private readonly members: readonly Member[];
  private readonly needs: readonly Need[];
  /** Exact plans of one base tile, by how far an entity is folded. */
  private exact = { head: -1, byFolded: new Map<number, ReadPlan | null>() };
  private guessed: { head: number; sealMs: number; plan: ReadPlan | null } | null = null;
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
  static split(plan: Plan, entity: string, names: readonly string[]): FeatureSet[] {
    const byGroup = new Map<number, { feature: Feature; view: View; position: number }[]>();
    names.forEach((name, position) => {
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
   * What to ask for before the entity is known: what one needs that is folded up to the seal, and what others need that have
   * been folded a little before it. Null: read the hash whole.
   */
  guess(asOfMs: number, sealMs: number): ReadPlan | null {
    const head = Math.floor(asOfMs / this.group.baseMs);
    if (this.guessed?.head !== head || this.guessed.sealMs !== sealMs) {
      this.guessed = { head, sealMs, plan: this.buildGuess(asOfMs, sealMs) };
    }
    return this.guessed.plan;
  }

  private buildGuess(asOfMs: number, sealMs: number): ReadPlan | null {
    const newest = this.planFor(asOfMs, sealMs);
    // What is folded changes where a level above the base ends, the finest of them the most often.
    const step = this.group.levels[1]?.sizeMs ?? Number.POSITIVE_INFINITY;
    const others: ReadPlan[] = [];
    for (let lagMs = step; lagMs <= LAG_MS; lagMs += step) {
      const other = this.planFor(asOfMs, sealMs - lagMs);
      if (other !== null) others.push(other);
    }
    return newest?.with(others) ?? null;
  }

  /** The plan for an entity that is folded up to `foldedMs`. Null when it would name too many fields. */
  private planFor(asOfMs: number, foldedMs: number): ReadPlan | null {
    const { group } = this;
    const head = Math.floor(asOfMs / group.baseMs);
    if (this.exact.head !== head || this.exact.byFolded.size >= EXTENTS_LIMIT) {
      this.exact = { head, byFolded: new Map() };
    }
    const { byFolded } = this.exact;
    let plan = byFolded.get(foldedMs);
    if (plan === undefined) {
      plan = planRead(group, this.needs, asOfMs, { foldedMs, stopMs: Number.POSITIVE_INFINITY });
      byFolded.set(foldedMs, plan);
    }
    return plan;
  }

  /**
   * Whether what was asked for is enough for an entity as it turned out to be.
   * @returns `ready` with the positions of its states; or what to ask for, null for the whole hash
   */
  settle(
    asked: ReadPlan,
    asOfMs: number,
    foldedMs: number,
    newestMs: number,
  ): { ready: true; plan: ReadPlan } | { ready: false; plan: ReadPlan | null } {
    const extent = this.extent(foldedMs, newestMs);
    if (asked.fits(extent)) return { ready: true, plan: asked };
    // Without the entity's own end first: such a plan is shared by all that are folded as far.
    const exact = this.planFor(asOfMs, foldedMs) ?? planRead(this.group, this.needs, asOfMs, extent);
    if (exact === null) return { ready: false, plan: null };
    const plan = asked.narrowedTo(exact);
    return plan === null ? { ready: false, plan: exact } : { ready: true, plan };
  }

  /** A plan over all fields of a hash, the meta field first. */
  whole(fields: readonly Buffer[], asOfMs: number, foldedMs: number, newestMs: number): ReadPlan {
    return planWhole(this.group, this.needs, asOfMs, this.extent(foldedMs, newestMs), fields);
  }

  private extent(foldedMs: number, newestMs: number): Extent {
    return { foldedMs, stopMs: floorTo(newestMs, this.group.baseMs) + this.group.baseMs };
  }

  /** Computes all features of the set, each into its place. */
  evaluate(
    plan: ReadPlan,
    values: readonly (Buffer | null)[],
    eventTimeMs: number | null,
    asOfMs: number,
    control: Buffer | null,
    into: FeatureValue[],
  ): void {
    const bornMs = this.bornMs(control);
    const { group, needs, members } = this;
    const answered = new Answered(values);
    const states = needs.map(({ slot }, n) =>
      eventTimeMs === null ? null : stateAt(slot, plan.positions[n], answered),
    );
    for (let m = 0; m < members.length; m++) {
      const { feature, view, position, needs: own } = members[m];
      const { window } = feature;
      const startMs = window.kind === "lifetime" ? 0 : windowInterval(window, group.baseMs, asOfMs).startMs;
      const ready = startMs >= bornMs[m];
      if (eventTimeMs === null || !ready) {
        into[position] = withStatus(view, null, eventTimeMs, asOfMs, ready);
        continue;
      }
      const options: LowerOptions = { scale: feature.scale, sample: feature.sample, asOfMs };
      const value = OPERATORS[feature.operator].lower(
        own.map((need) => states[need]),
        options,
      );
      into[position] = withStatus(view, value, eventTimeMs, asOfMs, true);
    }
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

/** Beside the seal, the first four bytes. */
function sameBirths(a: Buffer | null, b: Buffer | null): boolean {
  if (a === null || b === null) return a === b;
  return a.length === b.length && a.compare(b, 4, b.length, 4) === 0;
}
