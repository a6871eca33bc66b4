/** The product's connection to the store, each trip of which the scheduler decides over. */
import type { Redis } from "iovalkey";
import { Batch } from "../../adapters/valkey/calls.ts";
import { type Answer, type Command, unavailable, ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { runBytes } from "../../adapters/valkey/layout.ts";
import type { PreparedEvent } from "../../adapters/valkey/record.ts";
import type { Plan } from "../../core/plan.ts";
import { seeCopies } from "./copies.ts";
import type { Actor, Scheduler } from "./scheduler.ts";
import type { Expected, Spec } from "./spec.ts";
import type { SimulatedStore } from "./store.ts";

export interface SimulatedServer {
  readonly scheduler: Scheduler;
  readonly store: SimulatedStore;
  readonly spec: Spec;
  /** Id of an entity's group. */
  groupOf(entity: string): number;
  /** Something is as it must not be: the run ends here. */
  violated(what: string): void;
}

/** Calls of the store's function that are seen beside the specification as they take effect. */
export interface Watched {
  /** Which calls the next trip carries. */
  calls: number[];
  /** Whether the function is made to throw over a call. */
  throws(call: number): boolean;
  /** It took effect, with this answer. */
  settled(call: number, answer: unknown[]): void;
}

export class SimulatedConnection extends ValkeyConnection {
  /** On whose behalf; null asks at once, beside the scheduler. */
  actor: Actor | null;
  readonly server: SimulatedServer;
  /** Whose records a repair on it carries. */
  plan: Plan | null = null;
  private known: { readonly incarnation: number; readonly bytes: Buffer } | null = null;
  private watched: Watched | null = null;

  constructor(server: SimulatedServer, actor: Actor | null) {
    super({ host: "", port: 0 });
    this.server = server;
    this.actor = actor;
  }

  /** Tells which events the next calls carry. @returns what the specification says of them, as far as they take effect */
  expect(events: readonly PreparedEvent[]): Expected {
    const batch = new Batch(events, 0, events.length);
    const expected: Expected = events.map(({ updates }) => new Array(updates.length).fill(null));
    const { spec } = this.server;
    this.watch({
      calls: batch.calls.map((_, c) => c),
      throws: (call) => spec.throwsOver(batch, call),
      settled: (call) => spec.apply(batch, call, expected),
    });
    return expected;
  }

  watch(watched: Watched): void {
    this.watched = watched;
  }

  override async run(commands: readonly Command[]): Promise<Answer[]> {
    if (commands.length === 0) return [];
    const { store } = this.server;
    if (this.actor === null) return store.trip(commands);
    const { incarnation } = store;
    const watched = commands[0].name === "FCALL" ? this.watched : null;
    return this.server.scheduler.operation(this.actor, commands[0].name, (share) => {
      // The connection was cut by a failover since: nothing reaches the new primary under the old one's name.
      if (store.incarnation !== incarnation) throw unavailable(new Error("the connection is gone"));
      const sent = share < 1 ? commands.slice(0, Math.floor(share * commands.length)) : commands;
      return watched === null ? this.copy(sent) : this.call(sent, watched);
    });
  }

  /** A trip of other commands: what is read of an entity as a whole, dropped or written back, the specification does too. */
  private async copy(commands: readonly Command[]): Promise<Answer[]> {
    const answers = await this.server.store.trip(commands);
    seeCopies(this.server, commands, answers);
    return answers;
  }

  /** A trip of calls, beside the specification. */
  private async call(commands: readonly Command[], watched: Watched): Promise<Answer[]> {
    const { store, spec } = this.server;
    const { calls } = watched;
    await spec.refresh();
    const thrown = commands.map((_, i) => watched.throws(calls[i]));
    const answers: Answer[] = [];
    const sent = await store.trip(commands.filter((_, i) => !thrown[i]));
    for (const i of commands.keys()) {
      answers.push(thrown[i] ? new Error("ERR user_function: the simulation threw this") : sent.shift());
    }
    const missing: number[] = [];
    answers.forEach((answer, i) => {
      if (answer instanceof Error) {
        if (/Function not found/.test(answer.message)) missing.push(calls[i]);
        return;
      }
      if (((answer as unknown[])[0] as number) > 0) watched.settled(calls[i], answer as unknown[]);
    });
    if (missing.length > 0) watched.calls = missing;
    return answers;
  }

  override async runId(): Promise<string> {
    const { store, scheduler } = this.server;
    if (this.known?.incarnation !== store.incarnation) {
      if (this.actor !== null) await scheduler.operation(this.actor, "INFO", () => {});
      this.known = { incarnation: store.incarnation, bytes: runBytes(store.runId) };
    }
    return store.runId;
  }

  override knownRun(): Buffer | null {
    return this.known?.incarnation === this.server.store.incarnation ? this.known.bytes : null;
  }

  override async primaries(): Promise<Redis[]> {
    const { store, scheduler } = this.server;
    const ask = <T>(kind: string, effect: () => Promise<T>): Promise<T> =>
      this.actor === null ? effect() : scheduler.operation(this.actor, kind, effect);
    const node = {
      call: (name: string, ...args: string[]) => {
        if (name !== "FUNCTION" || args[0] !== "LOAD") throw new Error(`not simulated: ${name}`);
        return ask("LOAD", () => store.load(args[1]));
      },
      // All at once, and in an order that is not the server's own, which no seed gives.
      scanBuffer: (_cursor: string, ...args: string[]) => ask("SCAN", () => this.scan(args)),
      dbsize: () => ask("DBSIZE", async () => (await store.node()).dbsize()),
      info: () => ask("INFO", async () => `run_id:${store.runId}`),
      time: () =>
        ask("TIME", async () => [Math.floor(scheduler.nowMs / 1_000), Math.floor((scheduler.nowMs % 1_000) * 1_000)]),
    };
    return [node as unknown as Redis];
  }

  private async scan(args: readonly string[]): Promise<[Buffer, Buffer[]]> {
    const node = await this.server.store.node();
    const found = new Map<string, Buffer>();
    let cursor = "0";
    do {
      const [next, keys] = await node.scanBuffer(...([cursor, ...args] as [string]));
      for (const key of keys) found.set(key.toString("latin1"), key);
      cursor = next.toString();
    } while (cursor !== "0");
    return [Buffer.from(cursor), [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, key]) => key)];
  }

  override async close(): Promise<void> {}
}
