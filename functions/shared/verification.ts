/**
 * Is what the online store serves what the archive says? Entities are read online, computed again from the archive as of the same instant, and compared
 * feature by feature, bit by bit. What differs is looked at again, since the archive is written after the store; what goes on to differ is told.
 */
import type { ArchivedAnswers, Instant } from "../../adapters/offline/archived-answers.ts";
import { featureAt } from "../../adapters/offline/point-in-time.ts";
import type { OnlineReader } from "../../adapters/online-store.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Feature, FeatureValue, Plan, View } from "../../core/plan.ts";

export interface VerifyPorts {
  readonly plan: Plan;
  readonly reader: Pick<OnlineReader, "read">;
  /** Clocks of all primaries, in ms. */
  readonly clocks: () => Promise<readonly number[]>;
  readonly archived: (
    of: { readonly tenant: string; readonly entity: string; readonly features: readonly string[] },
    instants: readonly Instant[],
  ) => Promise<ArchivedAnswers>;
  /** Event time before which the archive holds nothing any more; 0 when it is whole. */
  readonly archiveFromMs: (stream: string) => Promise<number>;
  readonly wait: (ms: number) => Promise<unknown>;
}

export interface Difference {
  readonly entity: string;
  readonly id: string;
  readonly feature: string;
  readonly online: FeatureValue;
  readonly offline: FeatureValue;
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
  readonly values: readonly FeatureValue[];
}

/**
 * @param ids of entities of one type and tenant
 * @throws FreshetError `entity_unknown`, `store_degraded`; what reading the store and the archive throw
 */
export async function verifyEntities(
  ports: VerifyPorts,
  { tenant, entity, ids }: { readonly tenant: string; readonly entity: string; readonly ids: readonly string[] },
): Promise<VerifyReport> {
  const members = membersOf(ports.plan, entity);
  const features = members.map(({ feature: { name } }) => name);
  const begins = new Map<string, number>();
  for (const { view } of members) {
    if (!begins.has(view.stream)) begins.set(view.stream, await ports.archiveFromMs(view.stream));
  }
  const found = new Map<string, Difference[]>();
  let [left, racing, notReady] = [[...ids], 0, 0];
  let size = { objects: 0, bytes: 0 };
  for (const [look, settleMs] of SETTLE_MS.entries()) {
    if (left.length === 0) break;
    const readings = await readAll(ports, { tenant, entity, features }, left);
    await ports.wait(settleMs);
    const archived = await ports.archived({ tenant, entity, features }, readings);
    size = { objects: Math.max(size.objects, archived.objects), bytes: Math.max(size.bytes, archived.bytes) };
    const isLast = look === SETTLE_MS.length - 1;
    left = readings.flatMap((reading, row) => {
      found.delete(reading.id);
      if (archived.racing.has(row)) {
        if (isLast) racing++;
        return [reading.id];
      }
      const { differences, skipped } = compare(members, begins, { entity, reading, archived, row });
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

function membersOf({ views }: Plan, entity: string): { view: View; feature: Feature }[] {
  const own = views.filter((view) => view.entity === entity);
  if (own.length > 0) return own.flatMap((view) => view.features.map((feature) => ({ view, feature })));
  throw new FreshetError("entity_unknown", `no entity with features of events is named ${entity}`, {
    field: "entity",
    repair: `use ${[...new Set(views.map((view) => view.entity))].join(", ")}`,
  });
}

async function readAll(
  { reader, clocks }: VerifyPorts,
  of: { readonly tenant: string; readonly entity: string; readonly features: readonly string[] },
  ids: readonly string[],
): Promise<Reading[]> {
  const readings: Reading[] = [];
  for (let from = 0; from < ids.length; from += READ_TOGETHER) {
    const part = ids.slice(from, from + READ_TOGETHER);
    // Whatever a primary has applied before the read, it has applied by its clock of afterwards; what it shows as older than its clock of before was there.
    const asOfMs = Math.min(...(await clocks()));
    const answers = await reader.read(
      part.map((id) => ({ ...of, id })),
      asOfMs,
    );
    const untilMs = Math.max(...(await clocks()));
    const degraded = answers.find((answer) => answer.degraded !== null)?.degraded;
    if (degraded !== undefined) {
      throw new FreshetError("store_degraded", `the online store is not whole: ${degraded}`, {
        repair: "look at `freshet status`, and verify when it is ok again",
      });
    }
    part.forEach((id, i) => {
      readings.push({ id, asOfMs, untilMs, values: answers[i]!.values });
    });
  }
  return readings;
}

function compare(
  members: readonly { view: View; feature: Feature }[],
  begins: ReadonlyMap<string, number>,
  of: { entity: string; reading: Reading; archived: ArchivedAnswers; row: number },
): { differences: Difference[]; skipped: number } {
  const { entity, reading, archived, row } = of;
  const { id, asOfMs } = reading;
  const differences: Difference[] = [];
  let skipped = 0;
  members.forEach(({ view, feature }, f) => {
    const online = reading.values[f]!;
    const offline = featureAt(archived.columns[f]!, row);
    const fromMs = begins.get(view.stream)!;
    const isWhole = fromMs === 0 || (view.reachMs !== null && asOfMs - view.reachMs - longestHopMs(view) >= fromMs);
    if (online.status === "NOT_READY" || !isWhole) skipped++;
    else if (!isSame(online, offline)) {
      const newestVisibleMs = archived.newestVisibleMs[row]!;
      differences.push({ entity, id, feature: feature.name, online, offline, asOfMs, newestVisibleMs });
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
