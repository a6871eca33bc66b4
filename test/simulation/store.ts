/**
 * The online store of a run: a real Valkey, in which the clock is the run's, and which can fail over to a replica that lacks a
 * suffix, or lose everything, at any step.
 */
import type { Redis } from "iovalkey";
import { type Answer, type Command, ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { functionSource } from "../../adapters/valkey/function-source.ts";
import {
  CONTROL_FIELD,
  controlKey,
  decodeControl,
  decodeGroupControl,
  PUSHED_MISSING_FIELD,
  RESTORE_FIELD,
} from "../../adapters/valkey/layout.ts";
import { older } from "./plans.ts";
import type { Scheduler } from "./scheduler.ts";

/** What a call of the server's clock is replaced by: the run's time, which every trip sets. */
const CLOCK = /\bcall\("TIME"\)/g;
const VIRTUAL_CLOCK = 'call("MGET", "sim:s", "sim:us")';
/** What changes no control hash; what the store's function writes into one is told by the next that does. */
const READS: ReadonlySet<string> = new Set(["FCALL", "HGET", "HMGET"]);
// A replica as of now, in the server's other database.
const COPY_ALL = `
redis.call("SELECT", "1"); redis.call("FLUSHDB"); redis.call("SELECT", "0")
for _, key in ipairs(redis.call("KEYS", "*")) do redis.call("COPY", key, key, "DB", "1") end
return 1`;

export interface BucketState {
  readonly epoch: number;
  readonly state: string;
  /** Of the restore that has filled it last; null when none has. */
  readonly restore: string | null;
  /** Whether what was pushed may be missing. */
  readonly lacksPushed: boolean;
  /** Base index of the seal, by group. */
  readonly seals: ReadonlyMap<string, number>;
}

export class SimulatedStore {
  readonly raw: ValkeyConnection;
  readonly buckets: number;
  private scheduler!: Scheduler;
  private source: (text: string) => string = (text) => text;
  private readonly scripts = new Map<string, string>();
  /** Libraries that the server holds. */
  private readonly libraries = new Set<string>();
  /** Which primary answers: another one after each failover, restart or loss. */
  incarnation = 0;
  /** What was cached of the control hashes, until something writes one. */
  private controls: BucketState[] | null = null;

  constructor(at: { host: string; port: number }, buckets: number) {
    this.raw = new ValkeyConnection({ ...at, timeoutMs: 30_000 });
    this.buckets = buckets;
  }

  /** An empty store for another run. @param source what the function's source is changed to */
  async begin(scheduler: Scheduler, source: (text: string) => string): Promise<void> {
    this.source = source;
    // A fixture that does not fit any more must not look like a store that refuses.
    source(functionSource(older.plan).source);
    this.scheduler = scheduler;
    this.incarnation = 1;
    this.controls = null;
    await this.empty();
  }

  get runId(): string {
    return this.incarnation.toString(16).padStart(16, "0").padEnd(40, "a");
  }

  /** Commands as they are written by the product, at once, in order, at the run's time. */
  async trip(commands: readonly Command[]): Promise<Answer[]> {
    const us = Math.floor(this.scheduler.nowMs * 1_000);
    const sent: Command[] = [{ key: "", name: "MSET", args: ["sim:s", Math.floor(us / 1e6), "sim:us", us % 1e6] }];
    for (const command of commands) {
      if (command.key.endsWith("ctl") && !READS.has(command.name)) this.controls = null;
      const [script, ...rest] = command.args;
      sent.push(command.name === "EVAL" ? { ...command, args: [this.withClock(script as string), ...rest] } : command);
    }
    const answers = await this.raw.run(sent);
    answers.shift();
    return answers;
  }

  /** As `FUNCTION LOAD`. */
  async load(source: string): Promise<void> {
    if (this.libraries.has(source)) throw new Error("ERR Library already exists");
    this.libraries.add(source);
    const node = await this.node();
    await node.call("FUNCTION", "LOAD", "REPLACE", this.source(this.withClock(source)));
  }

  async node(): Promise<Redis> {
    return (await this.raw.primaries())[0];
  }

  /** What each bucket's control hash says; null for one that is gone. */
  async controlStates(): Promise<readonly (BucketState | null)[]> {
    if (this.controls !== null) return this.controls;
    const answers = await this.raw.demand(
      Array.from({ length: this.buckets }, (_, bucket) => {
        const key = controlKey(bucket);
        return { key, name: "HGETALL", args: [key] };
      }),
    );
    const states = answers.map((answer): BucketState | null => {
      const flat = answer as Buffer[];
      const seals = new Map<string, number>();
      let head: ReturnType<typeof decodeControl> | null = null;
      let restore: string | null = null;
      let lacksPushed = false;
      for (let i = 0; i < flat.length; i += 2) {
        const name = flat[i].toString();
        if (name === CONTROL_FIELD) head = decodeControl(flat[i + 1]);
        else if (name === RESTORE_FIELD) restore = flat[i + 1].toString();
        else if (name === PUSHED_MISSING_FIELD) lacksPushed = true;
        else if (name.startsWith("g:")) seals.set(name.slice(2), decodeGroupControl(flat[i + 1]).sealIndex);
      }
      return head === null ? null : { epoch: head.epoch, state: head.state, restore, lacksPushed, seals };
    });
    this.controls = states as BucketState[];
    return states;
  }

  /** A replica has come as far as this. */
  async checkpoint(): Promise<void> {
    await this.direct("EVAL", COPY_ALL, 0);
  }

  /** The replica takes over: what was written since the checkpoint is lost, and every connection is cut. */
  async failover(): Promise<void> {
    await this.direct("FLUSHDB");
    await this.direct("SWAPDB", 0, 1);
    this.incarnation++;
    this.controls = null;
  }

  /** The same server, ended and started again with all that it had. */
  restart(): void {
    this.incarnation++;
  }

  /** Everything is gone, the function too. */
  async lose(): Promise<void> {
    await this.empty();
    this.incarnation++;
    this.controls = null;
  }

  private async empty(): Promise<void> {
    await this.direct("FLUSHALL");
    await this.direct("FUNCTION", "FLUSH");
    this.libraries.clear();
  }

  private async direct(name: string, ...args: (string | number)[]): Promise<void> {
    await (await this.node()).call(name, ...args.map(String));
  }

  private withClock(text: string): string {
    let rewritten = this.scripts.get(text);
    if (rewritten === undefined) {
      rewritten = text.replace(CLOCK, VIRTUAL_CLOCK);
      this.scripts.set(text, rewritten);
    }
    return rewritten;
  }
}
