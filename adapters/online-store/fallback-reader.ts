/**
 * A reader that answers while the online store does not: from snapshots, within what is left of a call's budget.
 * Breakers keep calls from waiting for what is known to be down: one for each primary of the store, so that one that is sick takes
 * only its own entities with it, and one for the snapshots.
 */
import { InfrastructureError } from "../../core/errors.ts";
import type { FeatureValue } from "../../core/plan.ts";
import { type BreakerOptions, CircuitBreaker } from "./circuit-breaker.ts";
import type {
  EntityAnswer,
  EntityRequest,
  OnlineReader,
  ReadOptions,
  SnapshotAnswer,
  SnapshotLoss,
  SnapshotSource,
  StoreState,
} from "./online-store.ts";
import { STORE_STATES } from "./store-states.ts";
import { within } from "./within.ts";

export interface ReadBudget {
  /** All that a call may take which reads. */
  readonly totalMs: number;
  /** Of that, what the store may take where something else can answer: a snapshot of a kept type, or a caller that goes on without. */
  readonly storeMs: number;
}

export type Dependency = "store" | "snapshots";

/** What the reader tells about itself. */
export interface ReadEvents {
  /** A read was answered by the store, by snapshots (in part or in whole), or by nothing; of the latter two, how long it took. */
  answered(by: "store" | "snapshot" | "nothing", tookMs: number): void;
  /** An entity for which there was no snapshot to answer. */
  lost(reason: SnapshotLoss): void;
  breaker(of: Dependency, isOpen: boolean): void;
}

const NOTHING: FeatureValue = { value: null, status: "NOT_FOUND", eventTimeMs: null };
/** Not worth a question any more. */
const LEAST_MS = 5;
/**
 * Of the budget, for a caller that goes on without what is lost: the rest is what it answers in. Calls that have waited for the same store
 * end in the same moment, and each then has rules to work out behind all others.
 */
const READ_SHARE = 0.7;
/** Entities that a probe asks for. */
const SUSPECTS = 20;
/** The store answers, and what it says is not all that was there. */
const HOLLOW: readonly (string | null)[] = ["lost", "new", "restoring"];
const isHollow = ({ degraded }: EntityAnswer): boolean => HOLLOW.includes(degraded);

/** Of a read: when it ends, and whether its caller goes on without. */
interface Time {
  readonly untilMs: number;
  readonly partial: boolean;
}

/** What is known of one primary of the store. */
interface Primary {
  readonly breaker: CircuitBreaker;
  /** What failed last is what has to be answered. */
  suspects: readonly EntityRequest[];
}

export class FallbackReader implements OnlineReader {
  readonly #store: OnlineReader;
  readonly #snapshots: SnapshotSource | null;
  readonly #budget: ReadBudget;
  readonly #events: ReadEvents;
  readonly #breakerOptions: BreakerOptions;
  readonly #primaries = new Map<string, Primary>();
  readonly #snapshotBreaker: CircuitBreaker;
  /** What snapshots failed over last is what they have to answer. */
  #snapshotSuspects: { readonly requests: readonly EntityRequest[]; readonly asOfMs: number } | null = null;

  /** @param snapshots null where none are kept: then the breaker alone spares calls the wait */
  constructor(
    store: OnlineReader,
    snapshots: SnapshotSource | null,
    budget: ReadBudget,
    events: ReadEvents,
    breaker: BreakerOptions = {},
  ) {
    this.#store = store;
    this.#snapshots = snapshots;
    this.#budget = budget;
    this.#events = events;
    this.#breakerOptions = breaker;
    this.#snapshotBreaker = new CircuitBreaker(breaker, (isOpen) => events.breaker("snapshots", isOpen));
  }

  async read(
    requests: readonly EntityRequest[],
    asOfMs: number,
    options: ReadOptions = {},
  ): Promise<readonly EntityAnswer[]> {
    const { spentMs = 0, partial = false } = options;
    const startedMs = performance.now() - spentMs;
    const untilMs = startedMs + this.#budget.totalMs * (partial ? READ_SHARE : 1);
    const groups = this.#byPrimary(requests);
    // As good as always one: then nothing is taken apart and put together.
    const parts = await Promise.all(
      groups.map(({ primary, part }) => this.#askIfSound(primary, part, asOfMs, { untilMs, partial })),
    );
    const cause = parts.find(({ fault }) => fault !== null)?.fault ?? null;
    let answers: readonly (EntityAnswer | null)[];
    if (groups.length === 1) answers = parts[0].answers ?? requests.map(() => null);
    else {
      const merged: (EntityAnswer | null)[] = new Array(requests.length).fill(null);
      groups.forEach(({ places }, g) => {
        places.forEach((place, i) => {
          merged[place] = parts[g].answers?.[i] ?? null;
        });
      });
      answers = merged;
    }
    if (answers.every((answer) => answer !== null && (this.#snapshots === null || !isHollow(answer)))) {
      this.#events.answered("store", performance.now() - startedMs);
      this.#probeSnapshots();
      return answers as readonly EntityAnswer[];
    }
    return this.#withoutStore(requests, asOfMs, partial, { startedMs, untilMs, answers, cause });
  }

  /** Requests by the primary that answers for them. */
  #byPrimary(requests: readonly EntityRequest[]) {
    const names = requests.map((request) => this.#store.primaryOf?.(request) ?? "");
    const [first = ""] = names;
    if (names.every((name) => name === first)) return [{ primary: this.#primary(first), part: requests, places: [] }];
    return [...new Set(names)].map((name) => {
      const places = names.flatMap((other, i) => (other === name ? [i] : []));
      return { primary: this.#primary(name), part: places.map((i) => requests[i]), places };
    });
  }

  #primary(name: string): Primary {
    let primary = this.#primaries.get(name);
    if (primary === undefined) {
      const breaker = new CircuitBreaker(this.#breakerOptions, (isOpen) => {
        // Of all of them one state is told: open while any is.
        const others = [...this.#primaries.values()].some((each) => each.breaker !== breaker && each.breaker.isOpen);
        if (!others) this.#events.breaker("store", isOpen);
      });
      primary = { breaker, suspects: [] };
      this.#primaries.set(name, primary);
    }
    return primary;
  }

  /** @returns no answers from a primary that its breaker spares the call, or that failed to answer in time */
  async #askIfSound(
    primary: Primary,
    requests: readonly EntityRequest[],
    asOfMs: number,
    time: Time,
  ): Promise<{ readonly answers: readonly EntityAnswer[] | null; readonly fault: InfrastructureError | null }> {
    const admission = primary.breaker.admit(performance.now());
    if (admission === "probe") {
      const whole = { untilMs: performance.now() + this.#budget.totalMs, partial: false };
      void this.#ask(primary, primary.suspects, asOfMs, whole).catch(() => {});
    }
    if (admission !== "call") return { answers: null, fault: null };
    try {
      return { answers: await this.#ask(primary, requests, asOfMs, time), fault: null };
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error;
      return { answers: null, fault: error };
    }
  }

  /** What calls are kept from now, because it did not answer; of the store, any of its primaries. */
  get open(): readonly Dependency[] {
    const isStoreOpen = [...this.#primaries.values()].some(({ breaker }) => breaker.isOpen);
    return [
      ...(isStoreOpen ? (["store"] as const) : []),
      ...(this.#snapshotBreaker.isOpen ? (["snapshots"] as const) : []),
    ];
  }

  state(): Promise<StoreState> {
    this.#probeSnapshots();
    return this.#store.state();
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #areKept(requests: readonly EntityRequest[]): boolean {
    return this.#snapshots !== null && requests.some(({ entity }) => this.#snapshots!.keeps(entity));
  }

  /** Asks the store, and lets the primary's breaker know. @throws InfrastructureError when it does not answer in time */
  async #ask(
    primary: Primary,
    requests: readonly EntityRequest[],
    asOfMs: number,
    { untilMs, partial }: Time,
  ): Promise<readonly EntityAnswer[]> {
    try {
      const leftMs = Math.max(LEAST_MS, untilMs - performance.now());
      const patienceMs = partial || this.#areKept(requests) ? Math.min(this.#budget.storeMs, leftMs) : leftMs;
      const answers = await within(patienceMs, this.#store.read(requests, asOfMs));
      primary.breaker.succeeded();
      return answers;
    } catch (error) {
      if (!(error instanceof InfrastructureError)) {
        // It did answer; what is wrong is something else.
        primary.breaker.succeeded();
        throw error;
      }
      primary.suspects = requests.slice(0, SUSPECTS);
      primary.breaker.failed(performance.now());
      throw error;
    }
  }

  async #withoutStore(
    requests: readonly EntityRequest[],
    asOfMs: number,
    partial: boolean,
    store: { startedMs: number; untilMs: number; answers: readonly (EntityAnswer | null)[]; cause: unknown },
  ): Promise<readonly EntityAnswer[]> {
    const { startedMs } = store;
    const isWhole = (i: number) => store.answers[i] !== null && !isHollow(store.answers[i]);
    const wanted = requests.filter((_, i) => !isWhole(i));
    const snapshots = await this.#askSnapshots(wanted, asOfMs, store.untilMs - performance.now());
    let next = 0;
    const answers = requests.map(({ features }, i): EntityAnswer => {
      const stored = store.answers[i];
      if (stored !== null && isWhole(i)) return stored;
      const snapshot = snapshots[next++];
      if ("values" in snapshot) {
        return { values: snapshot.values, degraded: "snapshot", snapshotAgeMs: snapshot.ageMs };
      }
      this.#events.lost(snapshot.lost);
      // What little the store has is told with its reason; better than nothing.
      if (stored !== null) return stored;
      return { values: features.map(() => NOTHING), degraded: "snapshot", lost: true };
    });
    const lost = answers.filter((answer) => answer.lost).length;
    const isAnswered = lost === 0 || (partial && lost < answers.length);
    const bySnapshot = answers.some(({ snapshotAgeMs }) => snapshotAgeMs !== undefined);
    const by = !isAnswered ? "nothing" : bySnapshot ? "snapshot" : "store";
    this.#events.answered(by, performance.now() - startedMs);
    if (isAnswered) return answers;
    throw new InfrastructureError(STORE_STATES.unreachable.code, "the online store does not answer", {
      cause: store.cause,
      repair: STORE_STATES.unreachable.repair,
    });
  }

  /** While the store answers nobody needs them, and who asks for the store's sake finds out whether they are back: beside the call. */
  #probeSnapshots(): void {
    if (!this.#snapshotBreaker.isOpen || this.#snapshotSuspects === null) return;
    const { requests, asOfMs } = this.#snapshotSuspects;
    void this.#askSnapshots(requests, asOfMs, this.#budget.totalMs);
  }

  async #askSnapshots(
    requests: readonly EntityRequest[],
    asOfMs: number,
    leftMs: number,
  ): Promise<readonly SnapshotAnswer[]> {
    const none = (lost: SnapshotLoss) => requests.map((): SnapshotAnswer => ({ lost }));
    if (this.#snapshots === null || !this.#areKept(requests)) return none("not_declared");
    if (leftMs < LEAST_MS) return none("unavailable");
    const admission = this.#snapshotBreaker.admit(performance.now());
    if (admission === "skip") return none("unavailable");
    // The source is told how long it has; what it waits for may not know, as a client that looks for credentials first.
    const inTime = within(leftMs, this.#snapshots.read(requests, asOfMs, leftMs)).catch(() => none("unavailable"));
    const asked = inTime.then((answers) => {
      const failed = answers.some((answer) => "lost" in answer && answer.lost === "unavailable");
      if (failed) {
        this.#snapshotSuspects = { requests: requests.slice(0, SUSPECTS), asOfMs };
        this.#snapshotBreaker.failed(performance.now());
      }
      // Answers of no kept type were not asked for, and tell nothing of the table.
      else if (answers.some((answer) => !("lost" in answer) || answer.lost !== "not_declared"))
        this.#snapshotBreaker.succeeded();
      return answers;
    });
    return admission === "call" ? asked : none("unavailable");
  }
}
