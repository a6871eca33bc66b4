/** A request's features by group, compiled once for each distinct list. */
import type { Plan } from "../../core/plan.ts";
import type { EntityRequest } from "../online-store/online-store.ts";
import { FeatureSet } from "./feature-set.ts";
import { PushedSet } from "./pushed-set.ts";

const SETS_LIMIT = 1_000;

interface Sets {
  readonly entity: string;
  readonly sets: readonly FeatureSet[];
  readonly pushed: PushedSet | null;
}

export class FeatureSets {
  private readonly plan: Plan;
  private readonly byName = new Map<string, Sets>();
  /** The same by the list itself: callers hand in the same one again and again. */
  private readonly byList = new WeakMap<readonly string[], Sets>();

  constructor(plan: Plan) {
    this.plan = plan;
  }

  /** @throws FreshetError `feature_unknown` */
  of({ entity, features, registered = null }: Omit<EntityRequest, "tenant" | "id">): Sets {
    const known = this.byList.get(features);
    if (known?.entity === entity) return known;
    const name = `${entity}\n${features.join("\n")}`;
    // The same names may be another tenant's registrations: such a list is known by itself alone.
    let sets = registered === null ? this.byName.get(name) : undefined;
    if (!sets) {
      const pushed = PushedSet.of(this.plan, entity, features, registered);
      sets = { entity, sets: FeatureSet.split(this.plan, entity, features, registered), pushed };
      if (this.byName.size >= SETS_LIMIT) this.byName.clear();
      if (registered === null) this.byName.set(name, sets);
    }
    this.byList.set(features, sets);
    return sets;
  }
}
