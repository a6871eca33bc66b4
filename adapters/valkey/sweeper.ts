/**
 * Touches silent entities: their tiles are folded, their identities swept and what no window needs any more is pruned,
 * which a busy entity does by itself with its next event.
 */
import { isObject } from "../../core/operators/accumulators.ts";
import type { Group, Plan } from "../../core/plan.ts";
import { floorTo, frontier } from "../../core/tiles/window.ts";
import type { StoreApplier } from "./applier.ts";
import type { ValkeyConnection } from "./connection.ts";
import {
  bucketOf,
  controlKey,
  decodeGroupControl,
  decodeMeta,
  groupField,
  META_FIELD,
  type Meta,
  parseEntityKey,
} from "./layout.ts";

const SCAN_COUNT = 500;
const TOUCH_COUNT = 50;
const DAY_MS = 86_400_000;

export interface SweepReport {
  readonly scanned: number;
  readonly touched: number;
  /** False when the time was up before all keys were seen; the next run begins anew. */
  readonly complete: boolean;
}

/** @param deadlineMs clock at which to stop; scanning is safe to cut off anywhere */
export async function sweep(
  connection: ValkeyConnection,
  applier: StoreApplier,
  plan: Plan,
  deadlineMs: number,
  clock: () => number = Date.now,
): Promise<SweepReport> {
  const seals = await readSeals(connection, plan);
  let scanned = 0;
  let touched = 0;
  for (const node of await connection.primaries()) {
    let cursor = "0";
    do {
      if (clock() > deadlineMs) return { scanned, touched, complete: false };
      const [next, keys] = await node.scanBuffer(cursor, "COUNT", SCAN_COUNT, "TYPE", "hash");
      cursor = next.toString();
      const found = keys.flatMap((key) => entityOf(plan, key));
      scanned += found.length;
      const answers = await connection.demand(
        found.flatMap(({ key }) => [
          { key, name: "HGET", args: [key, META_FIELD] },
          { key, name: "HLEN", args: [key] },
        ]),
      );
      const due = found.filter(({ group }, i) => {
        const raw = answers[2 * i] as Buffer | null;
        const sealMs = seals.get(group.name);
        return (
          raw !== null && sealMs !== undefined && hasWork(group, decodeMeta(raw), answers[2 * i + 1] as number, sealMs)
        );
      });
      await touchAll(applier, due);
      touched += due.length;
    } while (cursor !== "0");
  }
  return { scanned, touched, complete: true };
}

interface Found {
  readonly key: string;
  readonly bucket: number;
  readonly group: Group;
}

function entityOf(plan: Plan, raw: Buffer): Found[] {
  const parts = parseEntityKey(raw);
  const group = parts && plan.groups.find(({ entity, stream }) => entity === parts.entity && stream === parts.stream);
  return group ? [{ key: raw.toString(), bucket: bucketOf(parts.tenant, parts.entity, parts.id), group }] : [];
}

async function readSeals(connection: ValkeyConnection, plan: Plan): Promise<Map<string, number>> {
  const key = controlKey(0);
  const answers = await connection.demand(
    plan.groups.map(({ name }) => ({ key, name: "HGET", args: [key, groupField(name)] })),
  );
  return new Map(
    plan.groups.flatMap((group, i) => {
      const raw = answers[i] as Buffer | null;
      return raw ? [[group.name, decodeGroupControl(raw).sealIndex * group.baseMs] as const] : [];
    }),
  );
}

/** True when a touch would fold a tile, drop identities, or prune what has aged. */
export function hasWork(group: Group, meta: Meta, fields: number, sealMs: number): boolean {
  const foldedMs = meta.folded * group.baseMs;
  if (sealMs <= foldedMs || meta.newest.length === 0) return false;
  const newestEndMs = floorTo(meta.newest[0], group.baseMs) + group.baseMs;
  if (newestEndMs > foldedMs) return true;
  const folds = group.levels.some(
    (level, index) =>
      index > 0 && frontier(level, sealMs) > frontier(level, foldedMs) && newestEndMs > frontier(level, foldedMs),
  );
  // What stays for ever: meta and, of a lifetime, the absorbed tile and an object for each slot that has one.
  const objects = group.slots.filter(({ lifetime, kind }) => lifetime && isObject(kind)).length;
  const lasting = group.hasLifetime ? 2 + objects : 1;
  return folds || (fields > lasting && sealMs - foldedMs >= DAY_MS);
}

async function touchAll(applier: StoreApplier, due: readonly Found[]): Promise<void> {
  const byBucket = new Map<number, Found[]>();
  for (const found of due) {
    const list = byBucket.get(found.bucket);
    if (list) list.push(found);
    else byBucket.set(found.bucket, [found]);
  }
  for (const [bucket, list] of byBucket) {
    for (let from = 0; from < list.length; from += TOUCH_COUNT) {
      const part = list.slice(from, from + TOUCH_COUNT);
      await applier.touch(
        bucket,
        part.map(({ key, group }) => ({ key, groupId: group.id })),
      );
    }
  }
}
