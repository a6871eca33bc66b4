/**
 * Who writes what, by the minute: for each key and stream or view a record in the audit log of how many requests, and how many events or
 * rows were accepted and refused. A record for each request would cost as much as the write itself; which values came is in the archive.
 * See docs/decisions/0038-audit-records.md.
 */
import { type AuditLog, type AuditRecord, auditId } from "../../../adapters/audit-log.ts";
import type { Principal } from "../keys/keys.ts";

export type WriteAction = "events.write" | "features.push";

const MINUTE_MS = 60_000;
const LOOK_MS = 5_000;
/** Counted apart at once: keys that write are few, and what is beyond is written at the next look. */
const MOST_ENTRIES = 10_000;

interface Entry {
  readonly tenant: string;
  readonly keyId: string;
  readonly action: WriteAction;
  readonly target: string;
  requests: number;
  accepted: number;
  refused: number;
  /** When it may be written: at once for whoever has not written for a minute, so that a rare write is not kept in memory alone. */
  dueMs: number;
}

export class WriteLedger {
  readonly #log: Pick<AuditLog, "write">;
  readonly #clock: () => number;
  readonly #onUnrecorded: (record: AuditRecord, error: unknown) => void;
  readonly #entries = new Map<string, Entry>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: {
    log: Pick<AuditLog, "write">;
    clock: () => number;
    /** Gets each record that the table did not take. */
    onUnrecorded: (record: AuditRecord, error: unknown) => void;
  }) {
    this.#log = options.log;
    this.#clock = options.clock;
    this.#onUnrecorded = options.onUnrecorded;
  }

  /** Counts one request. @param target the stream or view */
  note({ tenant, keyId }: Principal, action: WriteAction, target: string, accepted: number, refused: number): void {
    const name = `${keyId}/${action}/${target}`;
    let entry = this.#entries.get(name);
    if (entry === undefined) {
      if (this.#entries.size >= MOST_ENTRIES) return;
      entry = { ...{ tenant, keyId, action, target }, requests: 0, accepted: 0, refused: 0, dueMs: 0 };
      this.#entries.set(name, entry);
    }
    entry.requests++;
    entry.accepted += accepted;
    entry.refused += refused;
  }

  /** Writes what is due. Never throws. @param all what is not due yet, too: there will be no later */
  async settle(all = false): Promise<void> {
    const nowMs = this.#clock();
    const due: AuditRecord[] = [];
    for (const [name, entry] of this.#entries) {
      if (!all && nowMs < entry.dueMs) continue;
      if (entry.requests === 0) {
        this.#entries.delete(name);
        continue;
      }
      due.push(recordOf(entry, nowMs));
      entry.requests = entry.accepted = entry.refused = 0;
      entry.dueMs = nowMs + MINUTE_MS;
    }
    await Promise.all(due.map((record) => this.#log.write(record).catch((error) => this.#onUnrecorded(record, error))));
  }

  /** Looks by itself, on a host that runs between requests. */
  start(): void {
    this.#timer = setInterval(() => void this.settle(), LOOK_MS).unref();
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.settle(true);
  }
}

const recordOf = (
  { tenant, keyId, action, target, requests, accepted, refused }: Entry,
  atMs: number,
): AuditRecord => ({
  ...{ tenant, id: auditId(atMs), atMs, who: `key ${keyId}`, action },
  target: `${target}: ${accepted} accepted, ${refused} refused in ${requests} requests`,
  outcome: "done",
  requestId: null,
});
