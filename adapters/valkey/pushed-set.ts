/** Features of an entity's batch views, and those that its tenant has registered: which fields they need, and their values from those. */
import type { FeatureValue, Plan } from "../../core/plan.ts";
import { withStatus } from "../../core/tiles/tiles.ts";
import type { RegisteredRead } from "../online-store/online-store.ts";
import { PackedReader } from "./packed.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

/** What is read of one field, ascending by id; the same id may be wanted in two places. */
type Members = readonly Omit<RegisteredRead, "field">[];

const NOT_READY: FeatureValue = { value: null, status: "NOT_READY", eventTimeMs: null };

export class PushedSet {
  /** Fields of the entity's hash: one a view. */
  readonly encoded: EncodedArguments;
  /** The same, as text. */
  readonly names: readonly string[];
  private readonly fields: readonly Members[];

  private constructor(byField: ReadonlyMap<string, readonly RegisteredRead[]>) {
    this.fields = [...byField.values()].map((reads) => reads.toSorted((a, b) => a.id - b.id));
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
    this.fields.forEach((members, f) => {
      const packed = fields[f] ? new PackedReader(fields[f]) : null;
      for (const member of members) {
        const found = packed !== null && packed.next(member.id) === member.id;
        const value = found ? packed.value() : null;
        const answer = withStatus(member, value, found ? packed.eventTimeMs : null, asOfMs, true);
        into[member.position] = isWhole || answer.status !== "NOT_FOUND" ? answer : NOT_READY;
      }
    });
  }
}
