/** The write side of the online store: applies prepared events through the server-side function, exactly once. */
import { hash } from "node:crypto";
import { InfrastructureError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import { type Command, commandError, type ValkeyConnection } from "./connection.ts";
import { type FunctionSource, functionSource } from "./function-source.ts";
import { controlKey, runBytes } from "./layout.ts";
import type { PreparedEvent } from "./record.ts";
import { type Fate, readOutcomes, readReply } from "./replies.ts";

/** Keys and records of one call: bounds the time for which the server answers nobody else to about 10 ms. */
const KEYS_PER_CALL = 100;
const RECORDS_PER_CALL = 500;
/** Events of one round trip: about 100 ms of the server's time, far from any timeout however large the batch is. */
const EVENTS_PER_TRIP = 4_000;
const TRIPS_IN_FLIGHT = 2;

export interface EntityFate {
  readonly entity: string;
  readonly id: string;
  readonly fate: Fate;
  /** The store's clock when the event became visible; null when it did not. */
  readonly visibleMs: number | null;
}

export interface ApplyResult {
  /** For each event, for each of its updates. */
  readonly fates: readonly (readonly EntityFate[])[];
  /** The store's clock, for freshness; null when nothing was sent. */
  readonly nowMs: number | null;
  readonly failover: boolean;
}

/** A record by the position of its event and of its update in it: a number, since there are three for each event. */
type RecordRef = number;
const MAX_UPDATES = 64;
const eventOf = (ref: RecordRef): number => Math.floor(ref / MAX_UPDATES);
const updateOf = (ref: RecordRef): number => ref % MAX_UPDATES;

interface Call {
  readonly bucket: number;
  readonly keys: string[];
  /** For each key its records, those of one base tile together. */
  readonly records: RecordRef[][];
  readonly groups: number[];
  size: number;
}

export class StoreApplier {
  private readonly connection: ValkeyConnection;
  private readonly source: FunctionSource;
  private readonly scriptSha: string;
  private scripted = false;
  /** The epoch that calls carry, from the control table. */
  epoch: number;
  /** True for one that replays: it may apply while the store is being restored. */
  private readonly replaying: boolean;

  constructor(connection: ValkeyConnection, plan: Plan, epoch: number, options: { replaying?: boolean } = {}) {
    this.replaying = options.replaying ?? false;
    this.connection = connection;
    this.source = functionSource(plan);
    this.scriptSha = hash("sha1", this.source.script, "hex");
    this.epoch = epoch;
  }

  /**
   * Applies all updates of all events. Each entity is all or nothing; calling again with the same events is safe.
   * @throws InfrastructureError when any call failed: nothing may be acknowledged then
   */
  async apply(events: readonly PreparedEvent[]): Promise<ApplyResult> {
    const fates: EntityFate[][] = events.map(({ updates }) => new Array(updates.length));
    const outcome = { nowMs: null as number | null, failover: false };
    const inFlight: Promise<void>[] = [];
    for (let from = 0; from < events.length; from += EVENTS_PER_TRIP) {
      // While the server works on one trip, the next one is packed.
      if (inFlight.length >= TRIPS_IN_FLIGHT) await inFlight.shift();
      const trip = this.applySlice(events, from, Math.min(from + EVENTS_PER_TRIP, events.length), fates, outcome);
      // It is awaited later; until then its failure must not count as unhandled.
      trip.catch(() => {});
      inFlight.push(trip);
    }
    await Promise.all(inFlight);
    return { fates, ...outcome };
  }

  private async applySlice(
    events: readonly PreparedEvent[],
    from: number,
    to: number,
    fates: EntityFate[][],
    outcome: { nowMs: number | null; failover: boolean },
  ): Promise<void> {
    const calls = groupCalls(events, from, to);
    if (calls.length === 0) return;
    const answers = await this.send(events, calls);
    answers.forEach((answer, c) => {
      if (answer instanceof Error) throw commandError(answer);
      const reply = readReply(answer as unknown[]);
      outcome.nowMs = Math.max(outcome.nowMs ?? 0, reply.nowMs);
      outcome.failover ||= reply.failover;
      calls[c].records.forEach((records, k) => {
        const outcomes = reply.outcomes === null ? null : readOutcomes(reply.outcomes[k], records.length, reply.nowMs);
        for (let r = 0; r < records.length; r++) {
          const event = eventOf(records[r]);
          const update = updateOf(records[r]);
          const { entity, id } = events[event].updates[update];
          const { fate, visibleMs } =
            outcomes === null ? { fate: "applied" as const, visibleMs: reply.nowMs } : outcomes[r];
          fates[event][update] = { entity, id, fate, visibleMs };
        }
      });
    });
  }

  /**
   * Loads the library where it is missing. Names carry a hash, so loading is idempotent and never replaces another. A server
   * that has no functions, or refuses them to this user, gets the same code as a script, which costs more on each call.
   */
  async loadFunction(): Promise<void> {
    for (const node of await this.connection.primaries()) {
      try {
        if (!this.scripted) await node.call("FUNCTION", "LOAD", this.source.source);
        else await node.call("SCRIPT", "LOAD", this.source.script);
      } catch (error) {
        if (/already exists/.test(String(error))) continue;
        if (this.scripted || !isRefused(error)) throw commandError(error as Error);
        this.scripted = true;
        await node.call("SCRIPT", "LOAD", this.source.script).catch((cause: Error) => {
          throw commandError(cause);
        });
      }
    }
  }

  /** Folds, sweeps and prunes entities without an event. All keys lie in one bucket. */
  async touch(bucket: number, keys: readonly { key: string; groupId: number }[]): Promise<void> {
    const call: Call = {
      bucket,
      keys: keys.map(({ key }) => key),
      groups: keys.map(({ groupId }) => groupId),
      records: keys.map(() => []),
      size: 0,
    };
    const [answer] = await this.send([], [call], "touch");
    if (answer instanceof Error) throw commandError(answer);
    readReply(answer as unknown[]);
  }

  private async send(
    events: readonly PreparedEvent[],
    calls: readonly Call[],
    procedure: "apply" | "touch" = "apply",
  ): Promise<unknown[]> {
    let commands = await this.commands(events, calls, procedure);
    const answers = await this.connection.run(commands);
    // Answers of a pipeline come together: what the function refused for want of the library was not applied.
    const missing = answers.flatMap((answer, i) => (isMissing(answer) ? [i] : []));
    if (missing.length > 0) {
      await this.loadFunction();
      commands = await this.commands(events, calls, procedure);
      const again = await this.connection.run(missing.map((i) => commands[i]));
      missing.forEach((i, k) => {
        answers[i] = again[k];
      });
    }
    return answers;
  }

  private async commands(
    events: readonly PreparedEvent[],
    calls: readonly Call[],
    procedure: "apply" | "touch",
  ): Promise<Command[]> {
    const headers = new Map<string, Buffer>();
    const commands: Command[] = [];
    for (const call of calls) {
      const control = controlKey(call.bucket);
      const runId = await this.connection.runId(control);
      let header = headers.get(runId);
      if (!header) {
        header = Buffer.alloc(13);
        header.writeUInt32LE(this.epoch, 0);
        runBytes(runId).copy(header, 4);
        header[12] = this.replaying ? 1 : 0;
        headers.set(runId, header);
      }
      const blobs = call.records.map((records, k) => packBlob(events, call.groups[k], records));
      const args = [call.keys.length + 1, control, ...call.keys, header, ...blobs];
      commands.push(
        this.scripted
          ? { key: control, name: "EVALSHA", args: [this.scriptSha, ...args, procedure] }
          : { key: control, name: "FCALL", args: [this.source[procedure], ...args] },
      );
    }
    return commands;
  }
}

/** Group id, then for each base tile its index, number of records and their bytes, then the records. Orders `records` so. */
function packBlob(events: readonly PreparedEvent[], group: number, records: RecordRef[]): Buffer {
  const get = (ref: RecordRef) => events[eventOf(ref)].updates[updateOf(ref)];
  let size = 1;
  let index = -1;
  let tiles = 0;
  let ordered = true;
  for (const ref of records) {
    const { baseIndex, record } = get(ref);
    size += record.length;
    if (baseIndex === index) continue;
    if (baseIndex < index) ordered = false;
    index = baseIndex;
    tiles++;
  }
  if (!ordered) {
    records.sort((a, b) => get(a).baseIndex - get(b).baseIndex);
    tiles = new Set(records.map((ref) => get(ref).baseIndex)).size;
  }
  const blob = Buffer.allocUnsafe(size + tiles * 10);
  blob[0] = group;
  let at = 1;
  for (let i = 0; i < records.length; ) {
    const { baseIndex } = get(records[i]);
    const header = at;
    at += 10;
    let count = 0;
    for (; i < records.length; i++, count++) {
      const update = get(records[i]);
      if (update.baseIndex !== baseIndex) break;
      blob.set(update.record, at);
      at += update.record.length;
    }
    blob.writeUInt32LE(baseIndex, header);
    blob.writeUInt16LE(count, header + 4);
    blob.writeUInt32LE(at - header - 10, header + 6);
  }
  return blob;
}

/** Nothing of the call was done: the library or script is not there, or the server takes no function calls from this user. */
const isMissing = (answer: unknown): boolean =>
  answer instanceof Error && (/Function not found|NOSCRIPT/.test(answer.message) || isRefused(answer));

const isRefused = (error: unknown): boolean =>
  /NOPERM.*'(fcall|function\b)|unknown command.*'(FCALL|FUNCTION)'/i.test(String(error));

/** One call for each bucket (more when a bucket is busy), one blob for each key, records in the order of the events. */
function groupCalls(events: readonly PreparedEvent[], from: number, to: number): Call[] {
  const open = new Map<number, { call: Call; keys: Map<string, number> }>();
  const calls: Call[] = [];
  const start = (bucket: number) => {
    const call: Call = { bucket, keys: [], records: [], groups: [], size: 0 };
    calls.push(call);
    const entry = { call, keys: new Map<string, number>() };
    open.set(bucket, entry);
    return entry;
  };
  for (let event = from; event < to; event++) {
    const { updates } = events[event];
    for (let u = 0; u < updates.length; u++) {
      const { bucket, key, groupId } = updates[u];
      let entry = open.get(bucket) ?? start(bucket);
      if (entry.call.size >= RECORDS_PER_CALL) entry = start(bucket);
      let k = entry.keys.get(key);
      if (k === undefined) {
        if (entry.call.keys.length >= KEYS_PER_CALL) entry = start(bucket);
        k = entry.call.keys.push(key) - 1;
        entry.keys.set(key, k);
        entry.call.records.push([]);
        entry.call.groups.push(groupId);
      }
      entry.call.records[k].push(event * MAX_UPDATES + u);
      entry.call.size++;
    }
  }
  return calls;
}

/** Turns a refusal for an old epoch into a fresh one: the caller reads the control table and tries again. */
export const isEpochChange = (error: unknown): boolean =>
  error instanceof InfrastructureError && error.code === "epoch_changed";
