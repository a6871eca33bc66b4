/** What happens once a score is answered: the shadow scores too, and the inference log gets its row. */
import { hash64 } from "../../../adapters/hash.ts";
import type { InferenceLog } from "../../../adapters/inference-log/inference-log.ts";
import type { ShadowScore } from "../../../adapters/inference-log/inference-log-format.ts";
import { KEY_LIMIT } from "../../../core/event.ts";
import type { Plan, Scalar, Service } from "../../../core/plan.ts";
import { fractionOf } from "../../../core/scoring/variant.ts";
import { vectorNames } from "../../../core/scoring/vector.ts";
import { type ScoredRow, type ScoredService, type ScoreFault, type ScoreRequest, vectorValues } from "./score-run.ts";

export interface ScoreLogger {
  /** Returns at once; the work is done after the answer. */
  record(scored: {
    readonly target: ScoredService;
    readonly tenant: string;
    readonly requestId: string;
    readonly asOfMs: number;
    readonly requests: readonly ScoreRequest[];
    readonly rows: readonly ScoredRow[];
  }): void;
  /** Everything recorded so far is written. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

export function createScoreLogger(options: {
  readonly log: InferenceLog;
  readonly plan: Plan;
  readonly onFault: (fault: ScoreFault) => void;
}): ScoreLogger {
  const { log, plan, onFault } = options;
  // Worked out once for each service: the log is on the way of every score's CPU.
  const factsOf = new Map(plan.services.map((service) => [service.name, serviceFacts(plan, service)]));
  const underWay = new Set<Promise<void>>();

  async function shadowOf(row: ScoredRow, values: readonly Scalar[]): Promise<ShadowScore | null> {
    if (row.shadow === null) return null;
    const [{ probability, raw }] = await row.shadow.model.score([row.shadow.encode(values)]);
    return { model: row.shadow.name, score: probability, raw };
  }

  async function write(scored: Parameters<ScoreLogger["record"]>[0]): Promise<void> {
    const { target, tenant, requestId, asOfMs, requests, rows } = scored;
    const { service, definition, scorer } = target;
    const { sample, pii } = definition.log;
    const { names, fields, joinKeys, eventIds } = factsOf.get(service.name)!;
    const storedCount = service.features.length;
    const isHidden = (name: string) => pii.includes(name);
    const hidden = (name: string, value: Scalar): Scalar =>
      value === null || !isHidden(name) ? value : `sha256:${hash64(String(value))}`;
    for (const [index, row] of rows.entries()) {
      if (sample < 1 && fractionOf(`${requestId}/${index}`, hash64) >= sample) continue;
      const { keys, request } = requests[index];
      const { evaluation, stored, byModel } = row;
      let shadow: ShadowScore | null = null;
      try {
        shadow = await shadowOf(row, vectorValues(target, request, evaluation.values));
      } catch (error) {
        onFault({ requestId, service: service.name, code: "shadow_failed", error });
      }
      // What comes from a snapshot is compared with nothing: it was known to lag.
      const wasRead = stored.length > 0 && row.degraded !== "store_unavailable" && row.degraded !== "snapshot";
      const given = Object.fromEntries(fields.map((name) => [name, hidden(name, request[name])]));
      log.add({
        tenant,
        service: service.name,
        requestId,
        row: index,
        eventId: requests[index].eventId ?? eventIdOf(eventIds, keys),
        asOfMs,
        planHash: plan.hash,
        keys: Object.fromEntries(joinKeys.map((name) => [name, (keys[name] as string | undefined) ?? null])),
        request: given,
        features: names,
        values: [
          ...stored.map(({ status, value }) => (status === "PRESENT" ? (value as Scalar) : null)),
          ...evaluation.values.slice(storedCount),
          ...fields.map((name) => given[name]),
        ],
        statuses: wasRead ? stored.map(({ status }) => status) : [],
        vector: byModel === null ? null : loggedVector(byModel.vector, scorer.inputs.length, fields, isHidden),
        model: row.modelVersion,
        variant: row.variant,
        assigned: row.assigned,
        score: row.score,
        raw: byModel?.raw ?? null,
        decision: row.decision,
        degraded: row.degraded,
        shadow,
      });
    }
  }

  const settle = async () => {
    await Promise.all(underWay);
    await log.flush();
  };
  return {
    record(scored) {
      const task = new Promise<void>((resolve) => setImmediate(resolve))
        .then(() => write(scored))
        .catch((error) =>
          onFault({ requestId: scored.requestId, service: scored.target.service.name, code: "log_failed", error }),
        )
        .finally(() => underWay.delete(task));
      underWay.add(task);
    },
    settle,
    async close() {
      await Promise.all(underWay);
      await log.close();
    },
  };
}

/** @param inputs how many of the vector come before the request's fields */
function loggedVector(
  vector: Float64Array,
  inputs: number,
  fields: readonly string[],
  isHidden: (name: string) => boolean,
): (number | null)[] {
  const logged: (number | null)[] = [];
  for (let i = 0; i < vector.length; i++) {
    const isAbsent = Number.isNaN(vector[i]) || (i >= inputs && isHidden(fields[i - inputs]));
    logged.push(isAbsent ? null : vector[i]);
  }
  return logged;
}

function serviceFacts(plan: Plan, service: Service) {
  const views = plan.views.filter(({ features }) => features.some(({ name }) => service.features.includes(name)));
  return {
    names: vectorNames(service),
    fields: Object.keys(service.request),
    joinKeys: plan.entities.filter(({ name }) => service.entities.includes(name)).map(({ joinKey }) => joinKey),
    /** Event id fields of the streams behind its features. */
    eventIds: plan.streams
      .filter(({ name }) => views.some(({ stream }) => stream === name))
      .map(({ eventId }) => eventId),
  };
}

/** A caller may send the whole event that it is about to send, its id with it. */
function eventIdOf(fields: readonly string[], body: Readonly<Record<string, unknown>>): string | null {
  const given = fields.map((field) => body[field]).find((id) => typeof id === "string" || typeof id === "number");
  return given === undefined ? null : String(given).slice(0, KEY_LIMIT);
}
