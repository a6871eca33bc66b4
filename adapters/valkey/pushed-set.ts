/** Features of an entity's batch views that are read together: which fields they need, and their values from those. */
import type { BatchFeature, BatchView, FeatureValue, Plan } from "../../core/plan.ts";
import { withStatus } from "../../core/tiles.ts";
import { unpackValues } from "./packed.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

interface Member {
  readonly feature: BatchFeature;
  readonly position: number;
}

export class PushedSet {
  /** Fields of the entity's hash: the views' names. */
  readonly encoded: EncodedArguments;
  private readonly views: readonly { readonly view: BatchView; readonly members: readonly Member[] }[];

  private constructor(views: PushedSet["views"]) {
    this.views = views;
    this.encoded = encodeArguments(views.map(({ view }) => view.name));
  }

  /** @returns null when none of the names is of a batch view */
  static of(plan: Plan, entity: string, names: readonly string[]): PushedSet | null {
    const views = plan.batchViews.flatMap((view) => {
      if (view.entity !== entity) return [];
      const members = view.features.flatMap((feature) =>
        names.flatMap((name, position) => (name === feature.name ? [{ feature, position }] : [])),
      );
      return members.length === 0 ? [] : [{ view, members }];
    });
    return views.length === 0 ? null : new PushedSet(views);
  }

  /** @param fields aligned with `encoded`; empty for none */
  evaluate(fields: readonly (Buffer | null)[], asOfMs: number, into: FeatureValue[]): void {
    this.views.forEach(({ view, members }, v) => {
      const values = fields[v] ? unpackValues(fields[v]) : null;
      for (const { feature, position } of members) {
        const found = values?.get(feature.id);
        into[position] = withStatus(view, found?.value ?? null, found?.eventTimeMs ?? null, asOfMs, true);
      }
    });
  }
}
