/**
 * Turns calls away before everybody's latency collapses. One thread does all the work of a server. While its event loop still
 * rests, what is slow is something else; once it never does, each further call waits for all that have begun: by Little's law,
 * for as much work as is under way, divided by how much is completed in a second. Work is counted in calls with one row; calls with many
 * have turns of their own (`large-calls.ts`). Who is turned away is who has more than a fair share of it: a tenant that asks for more than
 * there is, or whose calls wait for something that hangs, takes its own places and nobody else's.
 */
import { performance } from "node:perf_hooks";
import { type LargeCall, LargeCalls } from "./large-calls.ts";

const LOOK_MS = 200;
/** Share of a look's time that the loop was busy, from which on there is more to do than time. */
const SATURATED = 0.95;
/** Calls that would wait longer are turned away. Callers have given up by then, or will ask a second time. */
const WAIT_LIMIT_MS = 300;
/** Calls under way that never count as too many. */
const FREE_CALLS = 32;
/** Beyond it, whatever the loop does: each holds memory. */
const MOST_CALLS = 4_096;
/** Of these, a tenant's, */
const TENANT_CALLS = MOST_CALLS / 2;
/** and those of one class: events that wait for their broker leave room for scores. */
const CLASS_CALLS = MOST_CALLS / 4;
/** Weight of the newest look in the capacity. */
const WEIGHT = 0.5;
/** A loop that was less busy did other things too, of which calls are not the measure. */
const TELLING = 0.1;

/** A body that takes longer is its sender's doing: behind a busy thread it waits for no more than the limit above, which the gate sees to. */
const SLOW_UPLOAD_MS = 1_000;

export interface Upload {
  readonly sinceMs: number;
  isSlow: boolean;
  /** Its place among those that wait. */
  at: number;
}

/** A tenant's calls under way. */
interface Share {
  calls: number;
  readonly byClass: Map<string, number>;
}

export class LoadGate {
  /** Calls under way, but for slow uploads. */
  calls = 0;
  /** Calls whose senders are slow: they take nothing of the thread's time until their body is here. */
  uploads = 0;
  readonly large = new LargeCalls(() => this.#capacity);
  /** In no order. */
  readonly #waiting: Upload[] = [];
  /** Of tenants that have calls under way. */
  readonly #shares = new Map<string, Share>();
  #shed = 0;
  /** Work. */
  #completed = 0;
  #isSaturated = false;
  /** Work completed in a ms in which the loop was busy; null before the first look that saw any. */
  #capacity: number | null = null;
  #timer: NodeJS.Timeout | null = null;

  /** Turned away since the start. */
  get shed(): number {
    return this.#shed + this.large.shed;
  }

  /** How long a call that begins now would take, in ms; 0 while the loop rests. */
  get waitMs(): number {
    return this.#waitMs(this.calls + 1);
  }

  #waitMs(calls: number): number {
    if (!this.#isSaturated || this.#capacity === null) return 0;
    return (calls - this.large.waiting + this.large.work) / this.#capacity;
  }

  /** Before anything is known of a call. @returns false for one that is turned away; else `enterAs` or `leave` has to follow */
  enter(): boolean {
    if (this.calls + this.uploads >= MOST_CALLS) {
      this.#shed++;
      return false;
    }
    this.calls++;
    return true;
  }

  /** Once it is known whose it is. @returns false for one that is turned away and has left; else `leave` has to follow */
  enterAs(tenant: string, routeClass: string): boolean {
    const share = this.#shares.get(tenant) ?? { calls: 0, byClass: new Map<string, number>() };
    const ofClass = share.byClass.get(routeClass) ?? 0;
    const isSlow = this.calls > FREE_CALLS && this.#waitMs(this.calls) > WAIT_LIMIT_MS;
    if (share.calls >= TENANT_CALLS || ofClass >= CLASS_CALLS || (isSlow && this.#isFull(tenant, share))) {
      this.calls--;
      this.#shed++;
      return false;
    }
    share.calls++;
    share.byClass.set(routeClass, ofClass + 1);
    this.#shares.set(tenant, share);
    return true;
  }

  /** Whether a tenant has its share of what is under way: an equal part for each that has any. */
  #isFull(tenant: string, share: Share): boolean {
    const tenants = this.#shares.size + (this.#shares.has(tenant) ? 0 : 1);
    return (share.calls + 1) * tenants >= this.calls + this.uploads;
  }

  /** A call that has entered waits for its body from here on, until `uploaded`. */
  uploading(): Upload {
    const upload = { sinceMs: performance.now(), isSlow: false, at: this.#waiting.length };
    this.#waiting.push(upload);
    return upload;
  }

  uploaded(upload: Upload): void {
    const last = this.#waiting.pop() as Upload;
    if (last !== upload) {
      this.#waiting[upload.at] = last;
      last.at = upload.at;
    }
    if (!upload.isSlow) return;
    this.uploads--;
    this.calls++;
  }

  /** @param tenant with `routeClass`, of one that has entered as somebody's */
  leave(tenant?: string, routeClass = ""): void {
    this.calls--;
    this.#completed++;
    const share = tenant === undefined ? undefined : this.#shares.get(tenant);
    if (share === undefined) return;
    share.byClass.set(routeClass, share.byClass.get(routeClass)! - 1);
    if (--share.calls === 0) this.#shares.delete(tenant as string);
  }

  /** Of one that has had its turn, before it leaves. */
  endLarge(call: LargeCall): void {
    this.large.end(call);
    this.#completed += call.work;
  }

  /** @param utilization of the loop since the last look, 0 to 1 */
  look(utilization: number, elapsedMs: number, nowMs = performance.now()): void {
    this.#isSaturated = utilization >= SATURATED;
    if (utilization >= TELLING && this.#completed > 0) {
      const capacity = this.#completed / (utilization * elapsedMs);
      this.#capacity = this.#capacity === null ? capacity : this.#capacity + WEIGHT * (capacity - this.#capacity);
    }
    this.#completed = 0;
    for (const upload of this.#waiting) {
      if (upload.isSlow || nowMs - upload.sinceMs < SLOW_UPLOAD_MS) continue;
      upload.isSlow = true;
      this.calls--;
      this.uploads++;
    }
  }

  start(): void {
    let before = performance.eventLoopUtilization();
    let beforeMs = performance.now();
    this.#timer = setInterval(() => {
      const [now, nowMs] = [performance.eventLoopUtilization(), performance.now()];
      this.look(performance.eventLoopUtilization(now, before).utilization, nowMs - beforeMs, nowMs);
      [before, beforeMs] = [now, nowMs];
    }, LOOK_MS).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }
}
