/** Features of an entity's batch views, and those that its tenant has registered: which fields they need, and their values from those. */
import type { FeatureValue, Plan } from "../../core/plan.ts";
import { withStatus } from "../../core/tiles.ts";
import type { RegisteredRead } from "../online-store.ts";
import { unpackValues } from "./packed.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

export class PushedSet {
  /** Fields of the entity's hash: one a view. */
  readonly encoded: EncodedArguments;
  /** The same, as text. */
  readonly names: readonly string[];
  private readonly fields: readonly (readonly Omit<RegisteredRead, "field">[])[];

  private constructor(byField: ReadonlyMap<string, readonly RegisteredRead[]>) {
    this.fields = [...byField.values()];
    this.names = [...byField.keys()];
    this.encoded = encodeArguments(this.names);
  }

  /** @returns null when none of the names is of a batch view, and none is registered */
  static of(
    plan: Plan,
    entity: string,
    names: readonly string[],
    registered: readonly RegisteredRead[] | null = null,
  ): PushedSet | null {
    const taken = new Set(registered?.map(({ position }) => position));
    const reads = plan.batchViews.flatMap(({ name: field, entity: of, features, ttlMs, reachMs }) => {
      if (of !== entity) return [];
      return features.flatMap(({ id, name: own }) =>
        names.flatMap((name, position) =>
          name === own && !taken.has(position) ? [{ position, field, id, ttlMs, reachMs }] : [],
        ),
      );
    });
    const byField = new Map<string, RegisteredRead[]>();
    for (const read of [...reads, ...(registered ?? [])]) {
      const list = byField.get(read.field);
      if (list) list.push(read);
      else byField.set(read.field, [read]);
    }
    return byField.size === 0 ? null : new PushedSet(byField);
  }

  /** @param fields aligned with `encoded`; empty for none */
  evaluate(fields: readonly (Buffer | null)[], asOfMs: number, into: FeatureValue[]): void {
    this.fields.forEach((members, f) => {
      const values = fields[f] ? unpackValues(fields[f]) : null;
      for (const member of members) {
        const found = values?.get(member.id);
        into[member.position] = withStatus(member, found?.value ?? null, found?.eventTimeMs ?? null, asOfMs, true);
      }
    });
  }
}
