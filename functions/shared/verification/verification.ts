/**
 * Is what the online store serves what the archive says? Entities are read online, computed again from the archive as of the same instant, and compared
 * feature by feature, bit by bit. What differs is looked at again, since the archive is written after the store; what goes on to differ is told.
 */
import type { ArchivedAnswers, Asked, Instant } from "../../../adapters/offline/archived-answers.ts";
import { featureAt } from "../../../adapters/offline/point-in-time.ts";
import type { EntityAnswer, EntityRequest, OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import type { Feature, FeatureValue, Plan, View } from "../../../core/plan.ts";
import { type PushedFeature, reachOf, storedView, versionedName } from "../../../core/pushed-feature.ts";

export interface VerifyPorts {
  readonly plan: Plan;
  readonly reader: Pick<OnlineReader, "read">;
  /** Clocks of all primaries, in ms. */
  readonly clocks: () => Promise<readonly number[]>;
  readonly archived: (of: Asked, instants: readonly Instant[]) => Promise<ArchivedAnswers>;
  /** What the tenant has registered. */
  readonly registered: (tenant: string) => Promise<readonly PushedFeature[]>;
  /** Event time before which the archive holds nothing any more; 0 when it is whole. */
  readonly archiveFromMs: (stream: string) => Promise<number>;
  readonly wait: (ms: number) => Promise<unknown>;
}

export interface Difference {
  readonly entity: string;
  readonly id: string;
  /** `*` for all of them: what the store holds of the entity cannot be read. */
  readonly feature: string;
  /** Null where it cannot be read. */
  readonly online: FeatureValue | null;
  readonly offline: FeatureValue | null;
  readonly asOfMs: number;
  /** When the newest event of the entity became visible: it has differed since then or longer. Null without an event. */
  readonly newestVisibleMs: number | null;
}

export interface VerifyReport {
  /** Entities that were compared. */
  readonly checked: number;
  /** Of these, those whose events came too fast for an instant between two of them. */
  readonly racing: number;
  readonly differing: number;
  /** Features that were left out, times entities: they wait for a build, or the archive does not reach back so far. */
  readonly notReady: number;
  /** Of at most `DIFFERENCES_TOLD`. */
  readonly differences: readonly Difference[];
  /** Of the archive, that the last look needed. */
  readonly objects: number;
  readonly bytes: number;
}

export const DIFFERENCES_TOLD = 100;
const READ_TOGETHER = 100;
/** How long the archive is given before each look: an invocation archives what it has applied within a second, and a retry later. */
const SETTLE_MS = [1_500, 3_000, 8_000, 20_000];

interface Reading extends Instant {
  /** Null where what the store holds is no entity's hash. */
  readonly values: readonly FeatureValue[] | null;
}

export interface VerifiedEntities {
  readonly tenant: string;
  readonly entity: string;
  readonly ids: readonly string[];
  /** What was pushed as well, by batch views and by the tenant. @default false */
  readonly pushed?: boolean;
}

/**
 * @param of entities of one type and tenant
 * @throws FreshetError `entity_unknown`, `store_degraded`; what reading the store and the archive throw
 */
export async function verifyEntities(ports: VerifyPorts, of: VerifiedEntities): Promise<VerifyReport> {
  const { tenant, entity, ids, pushed = false } = of;
  const registered = pushed ? (await ports.registered(tenant)).filter((feature) => feature.entity === entity) : [];
  const members = membersOf(ports.plan, entity, pushed, registered);
  const features = members.flatMap(({ name, registered: own }) => (own ? [] : [name]));
  const asked: Asked = { tenant, entity, features, registered };
  const begins = new Map<string, number>();
  for (const { view } of members) {
    if (view !== null && !begins.has(view.stream)) begins.set(view.stream, await ports.archiveFromMs(view.stream));
  }
  const found = new Map<string, Difference[]>();
  let [left, racing, notReady] = [members.length === 0 ? [] : [...ids], 0, 0];
  let size = { objects: 0, bytes: 0 };
  for (const [look, settleMs] of SETTLE_MS.entries()) {
    if (left.length === 0) break;
    const readings = await readAll(ports, asked, left);
    await ports.wait(settleMs);
    const archived = await ports.archived(asked, readings);
    size = { objects: Math.max(size.objects, archived.objects), bytes: Math.max(size.bytes, archived.bytes) };
    const isLast = look === SETTLE_MS.length - 1;
    left = readings.flatMap((reading, row) => {
      found.delete(reading.id);
      if (archived.racing.has(row)) {
        if (isLast) racing++;
        return [reading.id];
      }
      const { values } = reading;
      const { differences, skipped } =
        values === null
          ? { differences: [unreadable(entity, reading, archived.newestVisibleMs[row]!)], skipped: 0 }
          : compare(members, begins, { entity, reading: { ...reading, values }, archived, row });
      if (differences.length === 0) {
        notReady += skipped;
        return [];
      }
      found.set(reading.id, differences);
      return [reading.id];
    });
  }
  const differences = [...found.values()].flat().slice(0, DIFFERENCES_TOLD);
  return { checked: ids.length, racing, differing: found.size, notReady, differences, ...size };
}

interface Member {
  readonly name: string;
  /** Null for what was pushed. */
  readonly view: View | null;
  readonly registered: boolean;
}

/** Those of events first, then of batch views, then those that are registered. @throws FreshetError `entity_unknown` */
function membersOf(plan: Plan, entity: string, pushed: boolean, registered: readonly PushedFeature[]): Member[] {
  const memberOf = (view: View | null, isRegistered: boolean) => (name: string) => ({
    name,
    view,
    registered: isRegistered,
  });
  const names = (features: readonly Pick<Feature, "name">[]) => features.map(({ name }) => name);
  const views = plan.views.filter((view) => view.entity === entity);
  const batch = pushed ? plan.batchViews.filter((view) => view.entity === entity) : [];
  const members = [
    ...views.flatMap((view) => names(view.features).map(memberOf(view, false))),
    ...batch.flatMap(({ features }) => names(features).map(memberOf(null, false))),
    ...registered.map(versionedName).map(memberOf(null, true)),
  ];
  const known = plan.entities.map(({ name }) => name);
  if (members.length > 0 || (pushed && known.includes(entity))) return members;
  throw new FreshetError("entity_unknown", `no entity with features of events is named ${entity}`, {
    field: "entity",
    repair: `use ${[...new Set(plan.views.map((view) => view.entity))].join(", ")}`,
  });
}

const requestOf = ({ tenant, entity, features, registered }: Asked, id: string): EntityRequest => ({
  ...{ tenant, entity, id, features: [...features, ...registered.map(versionedName)] },
  registered: registered.map((feature, i) => ({
    position: features.length + i,
    field: storedView(feature.view),
    ...{ id: feature.id, ttlMs: feature.ttlMs, reachMs: reachOf(feature) },
  })),
});

async function readAll(ports: VerifyPorts, asked: Asked, ids: readonly string[]): Promise<Reading[]> {
  const { clocks } = ports;
  const readings: Reading[] = [];
  for (let from = 0; from < ids.length; from += READ_TOGETHER) {
    const part = ids.slice(from, from + READ_TOGETHER);
    // Whatever a primary has applied before the read, it has applied by its clock of afterwards; what it shows as older than its clock of before was there.
    const asOfMs = Math.min(...(await clocks()));
    const answers = await readEach(ports, asked, part, asOfMs);
    const untilMs = Math.max(...(await clocks()));
    const degraded = answers.find((answer) => answer !== null && answer.degraded !== null)?.degraded;
    if (degraded !== undefined) {
      throw new FreshetError("store_degraded", `the online store is not whole: ${degraded}`, {
        repair: "look at `freshet status`, and verify when it is ok again",
      });
    }
    part.forEach((id, i) => {
      readings.push({ id, asOfMs, untilMs, values: answers[i]?.values ?? null });
    });
  }
  return readings;
}

/** @returns null for one that cannot be read, which its neighbours must not suffer from. @throws InfrastructureError, FreshetError `read_overtaken` */
async function readEach(
  { reader }: Pick<VerifyPorts, "reader">,
  asked: Asked,
  ids: readonly string[],
  asOfMs: number,
): Promise<(EntityAnswer | null)[]> {
  try {
    return [
      ...(await reader.read(
        ids.map((id) => requestOf(asked, id)),
        asOfMs,
      )),
    ];
  } catch (error) {
    const isOfStore =
      error instanceof InfrastructureError || (error instanceof FreshetError && error.code === "read_overtaken");
    if (isOfStore) throw error;
    if (ids.length === 1) return [null];
    const answers: (EntityAnswer | null)[] = [];
    for (const id of ids) answers.push(...(await readEach({ reader }, asked, [id], asOfMs)));
    return answers;
  }
}

const unreadable = (entity: string, { id, asOfMs }: Reading, newestVisibleMs: number | null): Difference => ({
  ...{ entity, id, feature: "*", online: null, offline: null, asOfMs, newestVisibleMs },
});

function compare(
  members: readonly Member[],
  begins: ReadonlyMap<string, number>,
  of: {
    entity: string;
    reading: Reading & { readonly values: readonly FeatureValue[] };
    archived: ArchivedAnswers;
    row: number;
  },
): { differences: Difference[]; skipped: number } {
  const { entity, reading, archived, row } = of;
  const { id, asOfMs } = reading;
  const differences: Difference[] = [];
  let skipped = 0;
  members.forEach(({ name, view }, f) => {
    const online = reading.values[f]!;
    const offline = featureAt(archived.columns[f]!, row);
    const fromMs = view === null ? 0 : begins.get(view.stream)!;
    const isWhole =
      fromMs === 0 || (view !== null && view.reachMs !== null && asOfMs - view.reachMs - longestHopMs(view) >= fromMs);
    if (online.status === "NOT_READY" || !isWhole) skipped++;
    else if (!isSame(online, offline)) {
      const newestVisibleMs = archived.newestVisibleMs[row]!;
      differences.push({ entity, id, feature: name, online, offline, asOfMs, newestVisibleMs });
    }
  });
  return { differences, skipped };
}

const longestHopMs = ({ features }: View): number =>
  Math.max(0, ...features.map(({ window }) => (window.kind === "hopping" ? window.hopMs : 0)));

/** Bit by bit, but that −0 is 0. */
function isSame(online: FeatureValue, offline: FeatureValue): boolean {
  const text = ({ value, status, eventTimeMs }: FeatureValue) => JSON.stringify([value, status, eventTimeMs]);
  return text(online) === text(offline);
}
