/** An erasure as it is asked for, and as people and programs are told of it. */
import { type Erasure, newSalt, proofOf } from "../../../adapters/erasure/erasures.ts";
import { NOTHING_REWRITTEN } from "../../../adapters/erasure/rewrite.ts";
import { jobId } from "../../../adapters/jobs/historical-jobs.ts";
import { type ErasedEntity, erasedBeforeMs, FOR_EVER_MS } from "../../../core/erasure.ts";
import { FUTURE_LIMIT_MS } from "../../../core/event.ts";
import type { Plan } from "../../../core/plan.ts";

export interface ErasureRequest {
  readonly tenant: string;
  readonly subjects: readonly ErasedEntity[];
  /** Refuses events that happen later, too. */
  readonly block: boolean;
  readonly by: string;
}

/** Ids of one request: the archive is looked through once for all of them. */
export const MAX_SUBJECTS = 100;
/** @param ending what no other erasure has */
export function newErasure(plan: Plan, request: ErasureRequest, nowMs: number, ending: string): Erasure {
  const { tenant, subjects, block } = request;
  const salt = newSalt();
  return {
    tenant,
    id: jobId(nowMs, ending),
    state: "running",
    subjects,
    salt,
    hashes: subjects.map((subject) => proofOf(salt, tenant, subject)),
    block,
    beforeMs: block ? FOR_EVER_MS : erasedBeforeMs(plan, nowMs, FUTURE_LIMIT_MS),
    requestedBy: request.by,
    requestedMs: nowMs,
    round: 1,
    step: null,
    after: null,
    partial: NOTHING_REWRITTEN,
    looks: [],
    affected: affectedFeatures(plan, subjects),
    holding: [],
    onlineMs: null,
    confirmedMs: null,
    waitUntilMs: null,
    error: null,
    version: 1,
  };
}

/** Features of other entities that are computed from the erased one's key. */
function affectedFeatures(plan: Plan, subjects: readonly ErasedEntity[]): string[] {
  const keys = plan.entities.filter(({ name }) => subjects.some(({ entity }) => entity === name));
  const isKey = (field: string | null) => keys.some(({ joinKey }) => joinKey === field);
  const isErased = (entity: string) => subjects.some((subject) => subject.entity === entity);
  return plan.views.flatMap((view) => {
    const group = plan.groups[view.group];
    if (isErased(view.entity)) return [];
    return view.features
      .filter(({ slots }) => slots.some((slot) => isKey(group.channels[group.slots[slot].channel].input.field)))
      .map(({ name }) => name);
  });
}

/** Whom it is about is not in it: a hash of each is. */
export const erasureJson = (erasure: Erasure) => ({
  id: erasure.id,
  state: erasure.state,
  requested_by: erasure.requestedBy,
  requested_ms: erasure.requestedMs,
  before_ms: erasure.beforeMs,
  block: erasure.block,
  salt: erasure.salt,
  hashes: erasure.hashes,
  online_ms: erasure.onlineMs,
  confirmed_ms: erasure.confirmedMs,
  wait_until_ms: erasure.waitUntilMs,
  round: erasure.round,
  step: erasure.step,
  looks: erasure.looks.map(({ step, round, finishedMs, looked, rewritten, rows, unreadable }) => ({
    ...{ step, round, finished_ms: finishedMs, looked, rewritten, rows, unreadable },
  })),
  affected: erasure.affected,
  holding: erasure.holding,
  error: erasure.error === null ? null : { code: erasure.error.code, at_ms: erasure.error.atMs },
});
