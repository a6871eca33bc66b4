/** A small archive of the app's own streams as files, for everything that reads it offline. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ArchiveRow, encodeArchive } from "../../adapters/archive/archive-format.ts";
import { hash64 } from "../../adapters/hash.ts";
import { archiveSelect } from "../../adapters/offline/archive-view.ts";
import type { DuckSession } from "../../adapters/offline/duckdb.ts";
import type { MountStream } from "../../adapters/offline/training-set.ts";
import { identityText } from "../../core/event.ts";
import { plan } from "../../features/plan.ts";
import type { SimulatedEvent } from "../../local/generator/simulate.ts";

export const FRAUD_START = Date.UTC(2026, 10, 1, 12);

export interface Payment {
  readonly id: string;
  readonly timeMs: number;
  readonly card: string;
  readonly amount: number;
  readonly country?: string;
  readonly device?: string | null;
  /** After its time. @default 300 */
  readonly visibleAfterMs?: number;
}

const delivered = (stream: string, eventId: string, eventTimeMs: number, arrivalMs: number) => ({
  tenant: "default",
  stream,
  eventId,
  eventTimeMs,
  identity: hash64(identityText("default", stream, eventTimeMs, eventId)),
  arrivalMs,
  shard: "shardId-000000000000",
  sequence: String(arrivalMs),
  subSequence: 0,
});

export function paymentRow(payment: Payment): ArchiveRow {
  const { id, timeMs, card, amount, country = "NO", device = null, visibleAfterMs = 300 } = payment;
  const fate = (entity: string, entityId: string | null) =>
    entityId === null ? [] : [{ entity, id: entityId, fate: "applied" as const, visibleMs: timeMs + visibleAfterMs }];
  return {
    ...delivered("transactions", id, timeMs, timeMs + Math.min(100, visibleAfterMs)),
    fields: {
      tenant: "default",
      transaction_id: id,
      event_time: timeMs,
      card_id: card,
      user_id: `u-${card}`,
      merchant_id: "m1",
      amount,
      currency: "EUR",
      country,
      merchant_category: "grocery",
      status: "approved",
      device_id: device,
      channel: "pos",
    },
    fates: [...fate("card", card), ...fate("user", `u-${card}`), ...fate("merchant", "m1"), ...fate("device", device)],
  };
}

export interface Verdict {
  readonly id: string;
  readonly payment: string;
  readonly timeMs: number;
  readonly fraud: boolean;
}

export const labelRow = ({ id, payment, timeMs, fraud }: Verdict): ArchiveRow => ({
  ...delivered("labels", id, timeMs, timeMs + 50),
  fields: {
    tenant: "default",
    label_id: id,
    transaction_id: payment,
    event_time: timeMs,
    is_fraud: fraud,
    source: "analyst",
    reason: null,
  },
  fates: [],
});

export interface Click {
  readonly id: string;
  readonly timeMs: number;
  readonly user: string;
  readonly item: string;
  readonly action: "view" | "click" | "cart" | "purchase";
  /** Id of the view that it followed. */
  readonly follows?: string | null;
  readonly category?: string | null;
  /** After its time. @default 300 */
  readonly visibleAfterMs?: number;
}

export function clickRow(click: Click): ArchiveRow {
  const { id, timeMs, user, item, action, follows = null, category = null, visibleAfterMs = 300 } = click;
  const visibleMs = timeMs + visibleAfterMs;
  return {
    ...delivered("clicks", id, timeMs, timeMs + Math.min(100, visibleAfterMs)),
    fields: {
      tenant: "default",
      click_id: id,
      event_time: timeMs,
      user_id: user,
      item_id: item,
      action,
      session_id: null,
      dwell_ms: null,
      position: null,
      impression_id: follows,
      category,
    },
    fates: [
      { entity: "user", id: user, fate: "applied", visibleMs },
      { entity: "item", id: item, fate: "applied", visibleMs },
    ],
  };
}

/** Of the generator's clicks, each visible 300 ms after its time. */
export const simulatedClickRow = ({ id, timeMs, fields }: SimulatedEvent): ArchiveRow => ({
  ...delivered("clicks", id, timeMs, timeMs + 100),
  fields,
  fates: ["user", "item"].map((entity) => ({
    entity,
    id: String(fields[`${entity}_id`]),
    fate: "applied" as const,
    visibleMs: timeMs + 300,
  })),
});

/** Writes the rows as raw objects. @returns what mounts them */
export function fraudArchive(session: DuckSession, folder: string, rows: readonly ArchiveRow[]): MountStream {
  mkdirSync(folder, { recursive: true });
  const files = new Map(
    plan.streams.map(({ name }) => {
      const file = join(folder, `${name}.ndjson.zst`);
      writeFileSync(file, encodeArchive(rows.filter(({ stream }) => stream === name)));
      return [name, file];
    }),
  );
  return async (stream, range, name) => {
    const select = archiveSelect(stream, [files.get(stream.name)!], [], range);
    await session.run(`CREATE OR REPLACE VIEW ${name} AS ${select}`);
    return { raw_objects: 1, compacted_objects: 0, partitions: [`raw/stream=${stream.name}`], corrupt_objects: [] };
  };
}
