/** The product's connection to the store, each trip of which the scheduler decides over. */
import type { Redis } from "iovalkey";
import { Batch } from "../../adapters/valkey/calls.ts";
import { type Answer, type Command, unavailable, ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { runBytes } from "../../adapters/valkey/layout.ts";
import type { PreparedEvent } from "../../adapters/valkey/record.ts";
import type { Actor, Scheduler } from "./scheduler.ts";
import type { Expected, Spec } from "./spec.ts";
import type { SimulatedStore } from "./store.ts";

export interface SimulatedServer {
  readonly scheduler: Scheduler;
  readonly store: SimulatedStore;
  readonly spec: Spec;
  /** Something is as it must not be: the run ends here. */
  violated(what: string): void;
}

export class SimulatedConnection extends ValkeyConnection {
  /** On whose behalf; null asks at once, beside the scheduler. */
  actor: Actor | null;
  private readonly server: SimulatedServer;
  private known: { readonly incarnation: number; readonly bytes: Buffer } | null = null;
  /** The calls of an apply that has begun, and which of them the next trip carries. */
  private applying: { readonly batch: Batch; readonly expected: Expected; calls: number[] } | null = null;

  constructor(server: SimulatedServer, actor: Actor | null) {
    super({ host: "", port: 0 });
    this.server = server;
    this.actor = actor;
  }

  /** Tells which events the next calls carry. @returns what the specification says of them, as far as they take effect */
  expect(events: readonly PreparedEvent[]): Expected {
    const batch = new Batch(events, 0, events.length);
    const expected: Expected = events.map(({ updates }) => new Array(updates.length).fill(null));
    this.applying = { batch, expected, calls: batch.calls.map((_, c) => c) };
    return expected;
  }

  override async run(commands: readonly Command[]): Promise<Answer[]> {
    if (commands.length === 0) return [];
    const { store } = this.server;
    if (this.actor === null) return store.trip(commands);
    const { incarnation } = store;
    const applying = commands[0].name === "FCALL" ? this.applying : null;
    return this.server.scheduler.operation(this.actor, commands[0].name, (share) => {
      // The connection was cut by a failover since: nothing reaches the new primary under the old one's name.
      if (store.incarnation !== incarnation) throw unavailable(new Error("the connection is gone"));
      const sent = share < 1 ? commands.slice(0, Math.floor(share * commands.length)) : commands;
      return applying === null ? store.trip(sent) : this.apply(sent, applying);
    });
  }

  /** An apply's trip, beside the specification. */
  private async apply(
    commands: readonly Command[],
    applying: NonNullable<SimulatedConnection["applying"]>,
  ): Promise<Answer[]> {
    const { store, spec } = this.server;
    const { batch, expected, calls } = applying;
    if (calls.length < commands.length) return store.trip(commands);
    await spec.refresh();
    const thrown = commands.map((_, i) => spec.throwsOver(batch, calls[i]));
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
      if (((answer as unknown[])[0] as number) > 0) spec.apply(batch, calls[i], expected);
    });
    if (missing.length > 0) applying.calls = missing;
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
      scanBuffer: (...args: [string, ...string[]]) =>
        ask("SCAN", async () => (await store.node()).scanBuffer(...(args as [string]))),
      time: () =>
        ask("TIME", async () => [Math.floor(scheduler.nowMs / 1_000), Math.floor((scheduler.nowMs % 1_000) * 1_000)]),
    };
    return [node as unknown as Redis];
  }

  override async close(): Promise<void> {}
}
