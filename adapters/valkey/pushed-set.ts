/** Features of an entity's batch views, and those that its tenant has registered: which fields they need, and their values from those. */
import type { FeatureValue, Plan, Scalar } from "../../core/plan.ts";
import { withStatus } from "../../core/tiles/tiles.ts";
import type { RegisteredRead } from "../online-store/online-store.ts";
import { visitValues } from "./packed.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

/** What is read of one field. */
interface Field {
  /** Ascending by id; the same id may be wanted in two places. */
  readonly members: readonly Omit<RegisteredRead, "field">[];
  /** Of the members, each once. */
  readonly ids: readonly number[];
}

const NOT_READY: FeatureValue = { value: null, status: "NOT_READY", eventTimeMs: null };

export class PushedSet {
  /** Fields of the entity's hash: one a view. */
  readonly encoded: EncodedArguments;
  /** The same, as text. */
  readonly names: readonly string[];
  private readonly fields: readonly Field[];

  private constructor(byField: ReadonlyMap<string, readonly RegisteredRead[]>) {
    this.fields = [...byField.values()].map((reads) => {
      const members = reads.toSorted((a, b) => a.id - b.id);
      return { members, ids: [...new Set(members.map(({ id }) => id))] };
    });
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

  /**
   * @param fields aligned with `encoded`; empty for none
   * @param isWhole false while values that were pushed may not be back: one that is not found is not ready then
   */
  evaluate(fields: readonly (Buffer | null)[], asOfMs: number, into: FeatureValue[], isWhole = true): void {
    this.fields.forEach(({ members, ids }, f) => {
      let next = 0;
      // Members that come before `id` in their order have no value.
      const take = (id: number, value: Scalar, eventTimeMs: number | null) => {
        for (; next < members.length && members[next].id <= id; next++) {
          const member = members[next];
          const found = member.id === id;
          const answer = withStatus(member, found ? value : null, found ? eventTimeMs : null, asOfMs, true);
          into[member.position] = isWhole || answer.status !== "NOT_FOUND" ? answer : NOT_READY;
        }
      };
      if (fields[f]) visitValues(fields[f], ids, take);
      take(Number.POSITIVE_INFINITY, null, null);
    });
  }
}
