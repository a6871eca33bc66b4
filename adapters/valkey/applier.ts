/** The write side of the online store: applies prepared events through the server-side function, exactly once. */
import { hash } from "node:crypto";
import { InfrastructureError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import { Batch, touchCall } from "./calls.ts";
import { type Command, commandError, type ValkeyConnection } from "./connection.ts";
import { type EraseCall, encodeEraseCall } from "./erase.ts";
import { type FunctionSource, functionSource, type Procedure } from "./function-source.ts";
import { controlKey, runBytes } from "./layout.ts";
import { type MendAnswer, readMendAnswer } from "./mend.ts";
import { encodePushCall, type PushCall } from "./push.ts";
import { encodePutCall, type PutCall, type PutFate, readPutFates } from "./put.ts";
import type { PreparedEvent } from "./record.ts";
import { type Fate, readOutcomes, readReply } from "./replies.ts";
import type { EncodedArguments } from "./trip.ts";

/**
 * Events of one round trip: about 200 ms of the server's time, far from any timeout however large the batch is. Fewer cost
 * more: there is at least one call for each bucket that a trip meets (8,000 events 25 µs each, 4,000 29, 1,000 39).
 */
const EVENTS_PER_TRIP = 8_000;
const TRIPS_IN_FLIGHT = 2;
/** Of a push. */
const REFUSED_ERASED = 2;

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
    const batch = new Batch(events, from, to);
    if (batch.calls.length === 0) return;
    const answers = await this.send("apply", batch.calls, (call, ...rest) => batch.encode(call, ...rest));
    answers.forEach((answer, c) => {
      if (answer instanceof Error) throw commandError(answer);
      const reply = readReply(answer as unknown[]);
      outcome.nowMs = Math.max(outcome.nowMs ?? 0, reply.nowMs);
      outcome.failover ||= reply.failover;
      batch.calls[c].keys.forEach(({ first, records }, k) => {
        const outcomes = reply.outcomes === null ? null : readOutcomes(reply.outcomes[k], records, reply.nowMs);
        for (let u = first, r = 0; u >= 0; u = batch.next[u], r++) {
          const { entity, id } = batch.updates[u];
          fates[batch.event[u]][batch.place[u]] =
            outcomes === null
              ? { entity, id, fate: "applied", visibleMs: reply.nowMs }
              : { entity, id, fate: outcomes[r].fate, visibleMs: outcomes[r].visibleMs };
        }
      });
    });
  }

  /** Name of the library that this plan needs. */
  get library(): string {
    return this.source.library;
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
    const batch = new Batch([], 0, 0);
    const [answer] = await this.send("touch", [touchCall(bucket, keys)], (call, ...rest) =>
      batch.encode(call, ...rest),
    );
    if (answer instanceof Error) throw commandError(answer);
    readReply(answer as unknown[]);
  }

  /**
   * Puts what was built from the archive, in one round trip. Putting the same again changes nothing.
   * @returns for each call what became of each of its entities, in order
   * @throws InfrastructureError when a call was refused or failed: some of the others may have been done
   */
  async put(calls: readonly PutCall[]): Promise<PutFate[][]> {
    const answers = await this.send("put", calls, encodePutCall);
    return answers.map((answer, c) => {
      if (answer instanceof Error) throw commandError(answer);
      return readPutFates(readReply(answer as unknown[]).outcomes, calls[c].puts.length);
    });
  }

  /**
   * Repairs entities (`encodeMend`), in one round trip.
   * @returns for each call what became of each of its entities, in order
   * @throws InfrastructureError when a call was refused or failed: some of the others may have been done
   */
  async mend(calls: readonly PutCall[]): Promise<MendAnswer[][]> {
    const answers = await this.send("mend", calls, encodePutCall);
    return answers.map((answer, c) => {
      if (answer instanceof Error) throw commandError(answer);
      const { nowMs, outcomes } = readReply(answer as unknown[]);
      return calls[c].puts.map((_, i) => readMendAnswer(outcomes?.[i] ?? null, nowMs));
    });
  }

  /**
   * Pushes values that are given as they are; the newest of each feature wins. Pushing the same again changes nothing.
   * @returns for each call and entity when it became visible, by the store's clock; null where it was refused as too far ahead, 0 where it is
   *   of a time before the entity was erased: nothing was stored
   * @throws InfrastructureError when a call was refused or failed: some of the others may have been done
   */
  async push(calls: readonly PushCall[]): Promise<(number | null)[][]> {
    const answers = await this.send("push", calls, encodePushCall);
    return answers.map((answer, c) => {
      if (answer instanceof Error) throw commandError(answer);
      const { nowMs, outcomes } = readReply(answer as unknown[]);
      return calls[c].pushes.map((_, k) => {
        const refusal = outcomes?.[k]?.[0];
        return refusal === undefined ? nowMs : refusal === REFUSED_ERASED ? 0 : null;
      });
    });
  }

  /**
   * Erases entities; doing so again changes nothing. A caller that replays may do so while the store is being restored.
   * @returns for each call and key how many fields went
   * @throws InfrastructureError when a call was refused or failed: some of the others may have been done
   */
  async erase(calls: readonly EraseCall[]): Promise<number[][]> {
    const answers = await this.send("erase", calls, encodeEraseCall);
    return answers.map((answer, c) => {
      if (answer instanceof Error) throw commandError(answer);
      const { outcomes } = readReply(answer as unknown[]);
      return calls[c].keys.map((_, k) => outcomes![k].readUInt32LE(0));
    });
  }

  private async send<C extends { readonly bucket: number }>(
    procedure: Procedure,
    calls: readonly C[],
    encode: EncodeCall<C>,
  ): Promise<unknown[]> {
    let commands = await this.commands(procedure, calls, encode);
    const answers = await this.connection.run(commands);
    // Answers of a trip come together: what the function refused for want of the library was not applied.
    const missing = answers.flatMap((answer, i) => (isMissing(answer) ? [i] : []));
    if (missing.length > 0) {
      await this.loadFunction();
      commands = await this.commands(procedure, calls, encode);
      const again = await this.connection.run(missing.map((i) => commands[i]));
      missing.forEach((i, k) => {
        answers[i] = again[k];
      });
    }
    return answers;
  }

  private async commands<C extends { readonly bucket: number }>(
    procedure: Procedure,
    calls: readonly C[],
    encode: EncodeCall<C>,
  ): Promise<Command[]> {
    const headers = new Map<string, Buffer>();
    const commands: Command[] = [];
    const keys = calls.map(({ bucket }) => controlKey(bucket));
    // Asked for before anything is written: a primary must not change while a call that names another one waits.
    for (const key of keys) if (this.connection.knownRun(key) === null) await this.connection.runId(key);
    for (const [c, call] of calls.entries()) {
      const key = keys[c];
      const run = this.connection.knownRun(key) ?? runBytes(await this.connection.runId(key));
      const name = run.toString("latin1");
      let header = headers.get(name);
      if (!header) {
        header = Buffer.alloc(13);
        header.writeUInt32LE(this.epoch, 0);
        run.copy(header, 4);
        header[12] = this.replaying ? 1 : 0;
        headers.set(name, header);
      }
      commands.push(
        this.scripted
          ? { key, name: "EVALSHA", args: [this.scriptSha], tail: encode(call, key, header, procedure) }
          : { key, name: "FCALL", args: [this.source[procedure]], tail: encode(call, key, header) },
      );
    }
    return commands;
  }
}

/** Number of keys, keys, header and blobs of a call; a script's name of the procedure after them. */
type EncodeCall<C> = (call: C, control: string, header: Buffer, last?: string) => EncodedArguments;

/** Nothing of the call was done: the library or script is not there, or the server takes no function calls from this user. */
const isMissing = (answer: unknown): boolean =>
  answer instanceof Error && (/Function not found|NOSCRIPT/.test(answer.message) || isRefused(answer));

const isRefused = (error: unknown): boolean =>
  /NOPERM.*'(fcall|function\b)|unknown command.*'(FCALL|FUNCTION)'/i.test(String(error));

/** Turns a refusal for an old epoch into a fresh one: the caller reads the control table and tries again. */
export const isEpochChange = (error: unknown): boolean =>
  error instanceof InfrastructureError && error.code === "epoch_changed";
