/**
 * An erasure, from its request to the day on which its ids are forgotten (docs/erasure.md). It may be ended anywhere: the next run goes on
 * where the record says, and what is done twice changes nothing.
 */
import type { Erasure, ErasureLook, Erasures } from "../../../adapters/erasure/erasures.ts";
import { added, NOTHING_REWRITTEN } from "../../../adapters/erasure/rewrite.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { erasedBeforeMs } from "../../../core/erasure.ts";
import { FreshetError } from "../../../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../../../core/event.ts";
import {
  type ErasurePorts,
  eraseOnline,
  forgetEvents,
  getEvents,
  guardUntilMs,
  type OpenErasure,
  stepsOf,
} from "./erasure-steps.ts";

/** Longer than any function or compaction runs that had begun before. */
const CONFIRM_MS = 20 * 60_000;

/** Another run has changed the record: that one goes on. */
class Overtaken extends Error {}

/**
 * Does what can be done by `deadlineMs`.
 * @returns the record as this run leaves it, or as another one that has overtaken it does
 * @throws what stores and archive throw; the record says so, and the next run goes on
 */
export async function runErasure(
  ports: ErasurePorts & { readonly erasures: Erasures; readonly clock: () => number; readonly confirmMs?: number },
  given: Erasure,
  deadlineMs: number,
): Promise<Erasure> {
  const { erasures, clock, confirmMs = CONFIRM_MS } = ports;
  let record = given;
  const save = async (change: Partial<Erasure>) => {
    const next = await erasures.update({ ...record, ...change });
    if (next === null) throw new Overtaken();
    record = next;
  };
  try {
    if (record.state === "done" || (record.waitUntilMs ?? 0) > clock()) return record;
    if (record.state === "guarding") {
      if (record.block) return record;
      await save({ state: "done", subjects: null, waitUntilMs: null });
      await erasures.close(record);
      return record;
    }
    if (record.state === "confirming") {
      await save({ state: "running", round: record.round + 1, step: null, after: null, waitUntilMs: null });
    }
    // Whatever has come while nobody could begin is refused like the rest: the store drops an entity as a whole.
    const beforeMs = erasedBeforeMs(ports.plan, clock(), FUTURE_LIMIT_MS);
    if (record.onlineMs === null && beforeMs > record.beforeMs) await save({ beforeMs });
    if (!(await runRound(ports, record as OpenErasure, save, () => record, deadlineMs))) return record;
    const found = record.looks.filter(({ round }) => round === record.round).some(isFound);
    if (record.round === 1 || found) {
      await save({ state: "confirming", step: null, waitUntilMs: clock() + confirmMs, error: null });
      return record;
    }
    await forgetEvents(ports, record);
    await save({
      state: "guarding",
      step: null,
      confirmedMs: clock(),
      waitUntilMs: record.block ? null : guardUntilMs(record),
      error: null,
    });
    return record;
  } catch (error) {
    if (error instanceof Overtaken) return (await erasures.get(record.tenant, record.id)) ?? record;
    const told = error instanceof FreshetError ? { code: error.code, detail: error.message } : INTERNAL;
    await erasures.update({ ...record, error: { ...told, atMs: clock() } }).catch(() => {});
    throw error;
  }
}

const INTERNAL = { code: "internal", detail: "a fault of ours; the function's log has it" };
/** The store's tombstone is looked for by its own step each time, and finds itself. */
const isFound = ({ step, rows }: ErasureLook): boolean => rows > 0 && !step.startsWith("online");

/** @returns false when time was up first */
async function runRound(
  ports: Parameters<typeof runErasure>[0],
  erasure: OpenErasure,
  save: (change: Partial<Erasure>) => Promise<void>,
  current: () => Erasure,
  deadlineMs: number,
): Promise<boolean> {
  const { clock } = ports;
  const steps = stepsOf(ports.plan, erasure);
  const from = Math.max(
    0,
    steps.findIndex(({ name }) => name === erasure.step),
  );
  const session = await DuckSession.open(ports.duck);
  const holding = new Set(erasure.holding);
  const events = await getEvents(ports, erasure);
  try {
    for (const [i, step] of steps.slice(from).entries()) {
      if (i > 0 || erasure.step === null) await save({ step: step.name, after: null, partial: NOTHING_REWRITTEN });
      const isOver = await step.run(
        { ports, erasure, session, events, holding },
        {
          after: current().after ?? undefined,
          outOfTime: () => clock() >= deadlineMs,
          onStep: async (after, report) => {
            const { partial } = current();
            await save({ after: after === "" ? null : after, partial: added(partial, report), holding: [...holding] });
          },
        },
      );
      if (!isOver) return false;
      const { looks, partial, round } = current();
      const look: ErasureLook = { ...partial, step: step.name, round, finishedMs: clock() };
      const onlineMs = step.name === "online" ? (current().onlineMs ?? clock()) : current().onlineMs;
      await save({ looks: [...looks, look], onlineMs, partial: NOTHING_REWRITTEN, after: null });
      if (clock() >= deadlineMs && i < steps.length - 1) {
        await save({ step: steps[from + i + 1]?.name ?? null });
        return from + i + 1 >= steps.length;
      }
    }
    return true;
  } finally {
    session.close();
  }
}

/**
 * Puts the tombstones of all that is not done into a store that may lack them: after a loss or a failover, before it opens or is repaired.
 * @returns how many entities
 */
export async function replant(
  ports: Pick<ErasurePorts, "plan" | "applier"> & { readonly erasures: Erasures },
): Promise<number> {
  let entities = 0;
  for (const erasure of await ports.erasures.open()) {
    if (erasure.subjects === null || erasure.onlineMs === null) continue;
    const open = { ...erasure, subjects: erasure.subjects };
    // After a first whole look the archive is rid of it.
    await eraseOnline({ ports, erasure: open }, erasure.round > 1 || erasure.state !== "running");
    entities += erasure.subjects.length;
  }
  return entities;
}
