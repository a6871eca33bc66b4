/** States that the online store can be in: what each means and what repairs it, in one wording for API, applies and docs. */

export interface StoreCondition {
  /** What an apply is refused with; null where applies go on. */
  readonly code: "control_lost" | "store_full" | "store_not_ready" | "store_unavailable" | null;
  /** True when answers are as good as they get without an operator: `/ready` says 200. */
  readonly ready: boolean;
  readonly sentence: string;
  readonly repair: string;
}

/** All that is not `ok`. docs/operations.md has the same words; a test compares them. */
export const STORE_STATES = {
  unreachable: {
    code: "store_unavailable",
    ready: false,
    sentence:
      "the online store does not answer: snapshots stand in for it where there are some, events wait in the stream",
    repair: "start it (on a laptop `freshet up`; on AWS see the cache's events); callers reconnect by themselves",
  },
  new: {
    code: "store_not_ready",
    ready: false,
    sentence: "the online store is being created: events wait in the stream",
    repair: "none needed: the control function creates it within a minute of the deployment",
  },
  failover: {
    code: null,
    ready: true,
    sentence: "another primary answers than took the last writes and may lack the newest: the seal stands still",
    repair: "run `freshet recover`, which replays what may be missing",
  },
  lost: {
    code: "control_lost",
    ready: false,
    sentence: "the online store has lost control hashes, and data with them: events wait in the stream",
    repair:
      "run `freshet recover`, which begins the store anew from its newest snapshot and replays what has arrived since",
  },
  restoring: {
    code: "store_not_ready",
    ready: false,
    sentence: "the online store is being restored: only replays are applied, other events wait in the stream",
    repair: "wait until it is done; run `freshet recover` again if that was interrupted",
  },
  full: {
    code: "store_full",
    ready: true,
    sentence: "the online store's memory is used up: writes are refused and events wait in the stream, reads go on",
    repair: "remove what holds the seal, or add memory (runbook, store-memory); applies go on by themselves",
  },
  restoring_pushed: {
    code: null,
    ready: true,
    sentence: "the online store was begun anew, and values that were pushed or materialized before are not all back",
    repair: "none needed: `materialize` pushes them again each five minutes; see its log and alarms if this stays",
  },
} as const satisfies Readonly<Record<string, StoreCondition>>;
