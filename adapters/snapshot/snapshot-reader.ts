/** Features from snapshots, by the same code that computes them from the store: only where the bytes come from differs. */
import type { FeatureValue, Plan } from "../../core/plan.ts";
import { newestVisible } from "../../core/tiles/tiles.ts";
import type { EntityRequest, SnapshotAnswer, SnapshotLoss, SnapshotSource } from "../online-store/online-store.ts";
import { FeatureSets } from "../valkey/feature-sets.ts";
import { decodeSnapshot, layoutOf, type SnapshotContent } from "./item-format.ts";
import {
  type FoundItem,
  type ItemKey,
  itemName,
  pushedMark,
  type RoundRecord,
  type SnapshotTable,
} from "./snapshot-table.ts";

/** How far the rounds are is asked for again after this long. */
const ROUND_AGE_MS = 10_000;
const WARM_MS = 1_000;
const NOBODY: ItemKey = { tenant: "", entity: "", id: "", stream: null };

type Found = ReadonlyMap<string, FoundItem>;
/** One hash as of a snapshot; without content where the entity had none. */
interface Taken {
  readonly content: SnapshotContent | null;
  /** The entity was like this until then, at least. */
  readonly asOfMs: number;
}

/** @param clock epoch milliseconds */
export function createSnapshotReader(plan: Plan, table: SnapshotTable, clock: () => number): SnapshotSource {
  const kept = new Set(plan.entities.flatMap(({ name, fallback }) => (fallback ? [name] : [])));
  const groups = new Map(
    plan.groups.map((group) => [group.stream + "\n" + group.entity, { name: group.name, layout: layoutOf(group) }]),
  );
  const featureSets = new FeatureSets(plan);
  let known: { readonly round: RoundRecord | null; readonly atMs: number } | null = null;
  let looking: Promise<RoundRecord | null> | null = null;

  async function look(signal: AbortSignal): Promise<RoundRecord | null> {
    const round = await table.getRound(signal);
    known = { round, atMs: clock() };
    return round;
  }

  /** Many reads look for it in one moment: they share a look, and each waits as long as it has. */
  async function roundOf(signal: AbortSignal): Promise<RoundRecord | null> {
    if (known !== null && clock() - known.atMs < ROUND_AGE_MS) return known.round;
    looking ??= look(AbortSignal.timeout(WARM_MS)).finally(() => {
      looking = null;
    });
    try {
      return await Promise.race([looking, endOf(signal)]);
    } catch (error) {
      // What was known a while ago makes ages too great and misses nothing else.
      if (known === null) throw error;
      return known.round;
    }
  }

  function keysOf({ tenant, entity, id, ...request }: EntityRequest): ItemKey[] {
    const { sets, pushed } = featureSets.of({ entity, ...request });
    const streams: (string | null)[] = sets.map(({ group }) => group.stream);
    if (pushed !== null) streams.push(null);
    return streams.map((stream) => ({ tenant, entity, id, stream }));
  }

  function take(key: ItemKey, found: Found, round: RoundRecord): Taken | SnapshotLoss {
    const item = found.get(itemName(key));
    const group = key.stream === null ? null : groups.get(key.stream + "\n" + key.entity)!;
    // A round that did not keep it yet, by an older plan, has not looked for it.
    const isKept = round.marks[group === null ? pushedMark(key.entity) : group.name] !== undefined;
    const coveredMs = round.coveredUs === null || !isKept ? null : round.coveredUs / 1_000;
    if (item === undefined) return coveredMs === null ? "not_covered" : { content: null, asOfMs: coveredMs };
    if (!(Number.isFinite(item.epoch) && Number.isFinite(item.takenMs))) return "corrupt";
    if (item.epoch < round.epoch) return "older_epoch";
    if (item.data === null) return "too_large";
    const content = decodeSnapshot(item.data);
    if (content === null) return "corrupt";
    if (group !== null && content.layout !== group.layout) return "other_layout";
    return { content, asOfMs: Math.max(item.takenMs, coveredMs ?? 0) };
  }

  function answer(request: EntityRequest, found: Found, round: RoundRecord, asOfMs: number): SnapshotAnswer {
    const { sets, pushed } = featureSets.of(request);
    const values: FeatureValue[] = new Array(request.features.length);
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const key of keysOf(request)) {
      const taken = take(key, found, round);
      if (typeof taken === "string") return { lost: taken };
      const { content } = taken;
      oldestMs = Math.min(oldestMs, taken.asOfMs);
      if (key.stream === null) {
        pushed!.evaluate(
          pushed!.names.map((name) => fieldOf(content, name)),
          asOfMs,
          values,
        );
        continue;
      }
      const set = sets.find(({ group }) => group.stream === key.stream)!;
      const whole = content === null ? null : set.whole(content.items, asOfMs);
      const newestMs = whole === null ? null : newestVisible(whole.meta.newest, set.group.baseMs, asOfMs);
      const control = content?.control ?? controlOf(round, set.group.name);
      set.evaluate(whole?.plan ?? null, whole?.values ?? [], newestMs, asOfMs, control, values);
    }
    return { values, ageMs: Math.max(0, Math.round(asOfMs - oldestMs)) };
  }

  return {
    keeps: (entity) => kept.has(entity),

    async warm() {
      if (kept.size === 0) return;
      const signal = AbortSignal.timeout(WARM_MS);
      // Of no entity: what a first read would load, compile and connect is there, and how far the rounds are is known.
      await Promise.all([look(signal), table.get([NOBODY], signal)]).catch(() => {});
    },

    async read(requests, asOfMs, withinMs) {
      const wanted = requests.filter(({ entity }) => kept.has(entity));
      if (wanted.length === 0) return requests.map(() => ({ lost: "not_declared" }));
      const signal = AbortSignal.timeout(Math.max(1, Math.floor(withinMs)));
      let found: Found;
      let round: RoundRecord | null;
      try {
        [round, found] = await Promise.all([roundOf(signal), table.get(wanted.flatMap(keysOf), signal)]);
      } catch {
        return requests.map(({ entity }) => ({ lost: kept.has(entity) ? "unavailable" : "not_declared" }));
      }
      return requests.map((request): SnapshotAnswer => {
        if (!kept.has(request.entity)) return { lost: "not_declared" };
        if (round === null) return { lost: "not_covered" };
        try {
          return answer(request, found, round, asOfMs);
        } catch {
          // Bytes that are whole and cannot be read all the same: of a newer release, or a mistake.
          return { lost: "corrupt" };
        }
      });
    },
  };
}

/** Fails with the signal. */
const endOf = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });

const controlOf = (round: RoundRecord, group: string): Buffer | null => {
  const hex = round.controls[group];
  return hex === undefined ? null : Buffer.from(hex, "hex");
};

function fieldOf(content: SnapshotContent | null, name: string): Buffer | null {
  if (content === null) return null;
  const field = Buffer.from(name);
  for (let i = 0; i < content.items.length; i += 2) if (field.equals(content.items[i])) return content.items[i + 1];
  return null;
}
