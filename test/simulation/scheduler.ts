/**
 * Virtual time and the order of everything. Whatever a part of the system asks of another is an operation: it takes effect
 * when the scheduler comes to it, one at a time, and what the asking code does with the answer is done before the next one.
 */
import { InfrastructureError } from "../../core/errors.ts";
import type { Dice } from "./dice.ts";

/** One process: an invocation, an operator's command. Dead ones ask for nothing more and hear nothing. */
export class Actor {
  readonly name: string;
  dead = false;
  /** When it was or will be killed. */
  diedMs = Number.POSITIVE_INFINITY;
  operations = 0;
  onDeath: (() => void) | null = null;

  constructor(name: string) {
    this.name = name;
  }

  kill(nowMs: number): void {
    if (this.dead) return;
    this.dead = true;
    this.diedMs = nowMs;
    this.onDeath?.();
  }
}

interface Due {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void | Promise<void>;
}

/** How much of an operation takes place: all, nothing, or a part, in [0, 1). */
export type Effect<T> = (share: number) => T | Promise<T>;

/** Of these some of a stream's lanes may hear nothing good for a while. */
const OUTAGES: ReadonlySet<string> = new Set([
  ...["archive", "late queue", "quarantine"],
  ...["snapshots PutObject", "values PutObject"],
]);
const OUTAGE_MS = 300_000;
const NEVER = new Promise<never>(() => {});
/** Calls of the store that a process may have given up, or died over, long before the server hears of them: it was frozen, and is thawed. */
const CALLS: ReadonlySet<string> = new Set(["EVAL", "FCALL"]);
const THAWED_MS = 150_000;
/** What is still on its way when its sender is killed arrives this much later at most. */
const PACKET_MS = 5_000;

export class Scheduler {
  nowMs: number;
  steps = 0;
  /** Of everything that has happened: equal for equal seeds. */
  trace = 0;
  readonly dice: Dice;
  /** No more faults: what has been begun can come to its end. */
  calm = false;
  private readonly heap: Due[] = [];
  private order = 0;

  constructor(dice: Dice, startMs: number) {
    this.dice = dice;
    this.nowMs = startMs;
  }

  /** What happened, for somebody who looks into a run. @default nobody does */
  log: ((line: string) => void) | null = null;

  note(text: string): void {
    this.log?.(`${new Date(this.nowMs).toISOString().slice(11)} ${text}`);
    let hash = this.trace;
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    this.trace = (hash ^ (hash >>> 15)) >>> 0;
  }

  after(delayMs: number, run: Due["run"]): void {
    this.push({ atMs: this.nowMs + delayMs, order: this.order++, run });
  }

  /** As timers do. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /**
   * Asks for something on behalf of an actor. It may take long, fail before or after its effect or within it, or the actor
   * may die over it; an actor that has died never hears of it.
   */
  operation<T>(actor: Actor, kind: string, effect: Effect<T>): Promise<T> {
    if (actor.dead) return NEVER;
    const { dice } = this;
    const where = `${actor.name}/${actor.operations++}:${kind}`;
    const stalled = !this.calm && dice.fault("stall", where, 0.004);
    const delayMs = stalled ? dice.between(`${where} stall`, 1_000, 40_000) : dice.between(where, 0.3, 12) ** 2 / 8;
    return new Promise<T>((resolve, reject) => {
      this.after(delayMs, () => this.perform(actor, where, kind, effect, resolve, reject));
    });
  }

  /**
   * Whether a side store refuses an actor's lane for some minutes: nothing of it is written, or all of it and nobody hears so.
   * @returns null when it doesn't
   */
  private outage(actor: Actor, kind: string): "before" | "after" | null {
    if (this.calm || !OUTAGES.has(kind)) return null;
    const lane = actor.name.slice(0, actor.name.indexOf("#"));
    const when = `${kind} ${lane} ${Math.floor(this.nowMs / OUTAGE_MS)}`;
    if (!this.dice.fault("outage", when, 0.015)) return null;
    return this.dice.unit(`${when} after`) < 0.3 ? "after" : "before";
  }

  private async perform<T>(
    actor: Actor,
    where: string,
    kind: string,
    effect: Effect<T>,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ): Promise<void> {
    const { dice, calm } = this;
    if (actor.dead) {
      // It was sent before its sender died: it may have been on its way.
      if (this.nowMs - actor.diedMs < PACKET_MS && dice.unit(`${where} sent`) < 0.5) {
        dice.happened("arrived after its sender's death");
        await settled(() => effect(1));
      }
      return;
    }
    this.note(where);
    if (!calm) {
      if (dice.fault("crash before", where, 0.003)) return actor.kill(this.nowMs);
      if (dice.fault("refused", where, 0.006)) return reject(injected());
      if (CALLS.has(kind) && dice.fault("heard late", where, 0.003)) {
        this.after(dice.between(`${where} thawed`, 1_000, THAWED_MS), () => settled(() => effect(1)));
        return dice.unit(`${where} dies`) < 0.5 ? actor.kill(this.nowMs) : reject(injected());
      }
      if (dice.fault("cut off", where, 0.004)) {
        dice.happened(`cut off: ${serviceOf(kind)}`);
        await settled(() => effect(dice.unit(`${where} share`)));
        return dice.unit(`${where} dies`) < 0.3 ? actor.kill(this.nowMs) : reject(injected());
      }
    }
    const outage = this.outage(actor, kind);
    if (outage === "before") return reject(injected());
    let answer: T;
    try {
      answer = await effect(1);
    } catch (error) {
      reject(error);
      return;
    }
    if (!calm) {
      if (dice.fault("crash after", where, 0.003)) return actor.kill(this.nowMs);
      if (outage === "after" || dice.fault("answer lost", where, 0.006)) return reject(injected());
    }
    resolve(answer);
  }

  /** Does what is due, in order, until nothing is left or `done` says so. */
  async run(done: () => boolean): Promise<void> {
    while (this.heap.length > 0 && !done()) {
      const due = this.pop();
      this.nowMs = Math.max(this.nowMs, due.atMs);
      this.steps++;
      await due.run();
      // Everything that the asking code does with an answer happens in microtasks, and those end before an immediate.
      await new Promise(setImmediate);
    }
  }

  private push(due: Due): void {
    const { heap } = this;
    let at = heap.push(due) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (before(heap[parent], due)) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = due;
  }

  private pop(): Due {
    const { heap } = this;
    const top = heap[0];
    const last = heap.pop() as Due;
    const size = heap.length;
    if (size === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1], heap[child])) child++;
      if (before(last, heap[child])) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return top;
  }
}

/** Whom an operation asks, by its kind. */
function serviceOf(kind: string): "DynamoDB" | "S3" | "Valkey" {
  if (/^(table|late queue|scan late)/.test(kind)) return "DynamoDB";
  return /^(archive|list archive|get object|query|quarantine|snapshots|values|other)/.test(kind) ? "S3" : "Valkey";
}

const before = (a: Due, b: Due): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

const injected = () => new InfrastructureError("injected", "the simulation cut this off");

/** What nobody waits for any more may fail in silence. */
async function settled(work: () => unknown): Promise<void> {
  try {
    await work();
  } catch {}
}
