/**
 * One score, or a batch of them: read, evaluate, choose who scores, score. Missing features never fail a score. A store that
 * does not answer leaves the features missing that no snapshot answers; declared defaults stand in, and where one lacks a
 * default the rules decide, since a model has not learned from rows that know nothing.
 */
import { hash64 } from "../../../adapters/hash.ts";
import type { Explanation } from "../../../adapters/model/open.ts";
import type { ServedModel } from "../../../adapters/model/servable.ts";
import type { ModelServing, Served } from "../../../adapters/model/serving.ts";
import type { EntityAnswer, EntityRequest, OnlineReader } from "../../../adapters/online-store/online-store.ts";
import type { FeatureServiceDefinition } from "../../../core/definition.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import type { FeatureValue, Scalar, Service } from "../../../core/plan.ts";
import {
  type Decision,
  decide,
  type Evaluation,
  limitsOf,
  type Score,
  type Scorer,
} from "../../../core/scoring/scoring.ts";
import { experimentOf, isChallenged } from "../../../core/scoring/variant.ts";
import type { Observations } from "../catalogue/observations.ts";
import { Problem } from "../problems.ts";
import {
  addReads,
  type Catalogue,
  emptyRow,
  fillRow,
  type Selection,
  type SelectionPart,
} from "../reading/selection.ts";
import { selectForScore } from "../reading/tenant-selection.ts";
import type { RegisteredFeatures } from "../registered/tenant-features.ts";
import { eachOnce, inSteps, scoreVectors } from "./score-rows.ts";

/** A service with what it takes to score it. */
export interface ScoredService {
  readonly service: Service;
  /** Without what tenants have registered. */
  readonly selection: Selection;
  readonly scorer: Scorer;
  readonly definition: FeatureServiceDefinition;
}

export type Variant = "champion" | "challenger" | "fallback";

export interface ScoreRequest {
  /** Join keys by name, unchecked. */
  readonly keys: Readonly<Record<string, unknown>>;
  readonly request: Readonly<Record<string, Scalar>>;
  /** Null to let the experiment decide. */
  readonly variant: Variant | null;
  /** Path of the row in the request, for errors. */
  readonly prefix: string;
  /** Of the event that will be scored, where the caller need not bring it. */
  readonly eventId?: string;
}

export interface ScoredRow {
  readonly stored: readonly FeatureValue[];
  readonly evaluation: Evaluation;
  readonly variant: Variant;
  readonly assigned: "hash" | "request" | "only";
  readonly score: number;
  readonly decision: Decision;
  readonly modelVersion: string;
  readonly degraded: string | null;
  /** Of the oldest snapshot that stood in for the store; null where none did. */
  readonly snapshotAgeMs: number | null;
  /** Of a model: what it was fed and said. Null for rules. */
  readonly byModel: { readonly served: ServedModel; readonly vector: Float64Array; readonly raw: number } | null;
  readonly byRules: Score | null;
  /** Scores once the answer is out. */
  readonly shadow: ServedModel | null;
}

export interface ScoreFault {
  readonly requestId: string;
  readonly service: string;
  readonly code: string;
  readonly names?: readonly string[];
  readonly error?: unknown;
}

export interface ScoreRunnerOptions {
  readonly catalogue: Catalogue;
  /** Null for a host that cannot know. */
  readonly registered: RegisteredFeatures | null;
  readonly reader: OnlineReader;
  readonly models: Pick<ModelServing, "served"> | null;
  readonly clock: () => number;
  readonly observations: Pick<Observations, "rows">;
  /** Told about a read that failed, a function that threw, a model that failed: the caller gets a score all the same. */
  readonly onFault: (fault: ScoreFault) => void;
}

/** Inputs of a row in the order of a model's vector. */
export function vectorValues(
  { service }: ScoredService,
  request: ScoreRequest["request"],
  evaluated: readonly Scalar[],
): Scalar[] {
  const values = evaluated.slice();
  for (const name in service.request) values.push(request[name]);
  return values;
}

export function createScoreRunner(options: ScoreRunnerOptions) {
  const { catalogue, registered, reader, models, clock, observations, onFault } = options;

  async function read(
    target: ScoredService,
    tenant: string,
    rows: readonly ScoreRequest[],
    requestId: string,
    waitedMs: number,
  ) {
    const { service } = target;
    const inputs = service.registered ?? [];
    const begunMs = performance.now();
    const { selection, fault } =
      inputs.length === 0
        ? { selection: target.selection, fault: null }
        : await selectForScore(catalogue, registered, tenant, service.name);
    const spentMs = waitedMs + performance.now() - begunMs;
    const wanted: EntityRequest[] = [];
    const parts: SelectionPart[] = [];
    const rowOf: number[] = [];
    rows.forEach(({ keys, prefix }, row) => {
      addReads(selection, tenant, keys, prefix, wanted, parts);
      while (rowOf.length < wanted.length) rowOf.push(row);
    });
    const { requests, answerOf } = rows.length === 1 ? { requests: wanted, answerOf: null } : eachOnce(wanted);
    const asOfMs = clock();
    const stored = rows.map(() => emptyRow(selection));
    let answers: readonly EntityAnswer[] = [];
    let degraded: string | null = null;
    try {
      if (requests.length > 0) answers = await reader.read(requests, asOfMs, { partial: true, spentMs });
    } catch (error) {
      degraded = storeFault(error);
      if (degraded === null) throw error;
      onFault({ requestId, service: service.name, code: degraded, error });
    }
    /** Features of which nothing is known, for this request at least: one arm scores all of its rows. */
    const lost = new Set(degraded === null ? [] : service.features);
    if (fault !== null) {
      degraded ??= "catalogue_unavailable";
      for (const { name } of inputs) lost.add(name);
      onFault({ requestId, service: service.name, code: "catalogue_unavailable", error: fault });
    }
    let snapshotAgeMs: number | null = null;
    for (const { degraded: reason, snapshotAgeMs: ageMs } of answers) {
      degraded ??= reason;
      if (ageMs !== undefined) snapshotAgeMs = Math.max(snapshotAgeMs ?? 0, ageMs);
    }
    for (let i = 0; answers.length > 0 && i < wanted.length; i++) {
      const answer = answers[answerOf === null ? i : answerOf[i]];
      fillRow(stored[rowOf[i]], parts[i], answer.values);
      if (answer.lost) for (const name of parts[i].features) lost.add(name);
    }
    // What an outage has left out is not what is missing of a feature.
    if (lost.size === 0) observations.rows(tenant, selection, stored, asOfMs);
    return { asOfMs, stored, degraded, lost, snapshotAgeMs };
  }

  /** Who scores a row. @param dealt what the hash has said of a key's rows before. @throws Problem `variant_absent` */
  function choose(
    { service, definition }: ScoredService,
    served: Served,
    row: ScoreRequest,
    dealt: Map<Scalar, boolean>,
  ) {
    const { champion, challenger } = served;
    if (row.variant !== null) {
      const chosen = row.variant === "fallback" ? null : served[row.variant];
      if (row.variant !== "fallback" ? chosen === null : definition.fallback === null) {
        throw new Problem("variant_absent", `service ${service.name} has no ${row.variant}`, {
          field: `${row.prefix}variant`,
          repair: "leave variant out, or look at GET /v1/models",
        });
      }
      return { variant: row.variant, chosen, assigned: "request" as const };
    }
    if (challenger === null || champion === null) {
      return {
        variant: champion === null ? ("fallback" as const) : ("champion" as const),
        chosen: champion,
        assigned: "only" as const,
      };
    }
    const experiment = experimentOf(catalogue.plan, service, definition);
    const share = served.share ?? experiment.challenger;
    const value = experiment.key in row.request ? row.request[experiment.key] : (row.keys[experiment.key] as Scalar);
    // What has no key is not dealt: it would weigh on the champion's arm alone.
    const isDealt = share > 0 && value !== null && value !== undefined;
    const assigned = isDealt ? ("hash" as const) : ("only" as const);
    let challenged = dealt.get(value);
    if (challenged === undefined) {
      challenged = isChallenged(service.name, experiment, share, value, hash64);
      dealt.set(value, challenged);
    }
    return challenged
      ? { variant: "challenger" as const, chosen: challenger, assigned }
      : { variant: "champion" as const, chosen: champion, assigned };
  }

  function byRules(target: ScoredService, row: ScoreRequest, evaluation: Evaluation): Score {
    const score = target.scorer.score(row.request, evaluation);
    if (score === null) throw withoutModel(target.service.name);
    return score;
  }

  return {
    /** Before anything of a request is read. @throws Problem `service_without_model` */
    require({ service }: ScoredService, tenant: string): void {
      if (service.fallback !== null) return;
      const { champion, challenger } = models === null ? NO_MODELS : models.served(tenant, service.name);
      if (champion === null && challenger === null) throw withoutModel(service.name);
    },

    /**
     * @param waitedMs what the call has waited for before
     * @returns rows in the order given
     * @throws Problem of a row's keys, `variant_absent`, `service_without_model`
     */
    async run(
      target: ScoredService,
      tenant: string,
      rows: readonly ScoreRequest[],
      requestId: string,
      waitedMs: number,
    ) {
      const { service, scorer, definition } = target;
      const served = models === null ? NO_MODELS : models.served(tenant, service.name);
      const dealt = new Map<Scalar, boolean>();
      const chosen = rows.map((row) => choose(target, served, row, dealt));
      const { asOfMs, stored, degraded, lost, snapshotAgeMs } = await read(target, tenant, rows, requestId, waitedMs);
      const evaluations = await inSteps(rows, ({ request }, i) => scorer.evaluate(request, stored[i]));
      const isLost = service.fallback !== null && [...lost].some((name) => definition.defaults[name] === undefined);
      const vectors = await inSteps(rows, ({ request }, i) => {
        const model = isLost ? null : chosen[i].chosen;
        return model === null ? null : model.encode(vectorValues(target, request, evaluations[i].values));
      });
      const scores = await scoreVectors(chosen, vectors, (error) =>
        onFault({ requestId, service: service.name, code: "model_failed", error }),
      );
      const faults = new Set(evaluations.flatMap((one) => one.faults));
      const scored = rows.map((row, i): ScoredRow => {
        const { variant, assigned } = chosen[i];
        const common = {
          stored: stored[i],
          evaluation: evaluations[i],
          assigned,
          shadow: served.shadow,
          snapshotAgeMs,
        };
        const modelScore = scores[i];
        if (modelScore !== null) {
          const model = chosen[i].chosen!;
          return {
            ...common,
            variant,
            score: modelScore.probability,
            decision: decide(modelScore.probability, limitsOf(definition)),
            modelVersion: model.name,
            degraded,
            byModel: { served: model, vector: vectors[i]!, raw: modelScore.raw },
            byRules: null,
          };
        }
        const rules = byRules(target, row, evaluations[i]);
        for (const name of rules.faults) faults.add(name);
        const failed = vectors[i] !== null ? "model_failed" : variant === "fallback" ? served.fault : null;
        const { score, decision, modelVersion } = rules;
        const reason = degraded ?? (row.variant === null ? failed : null);
        return {
          ...common,
          variant: "fallback",
          score,
          decision,
          modelVersion,
          degraded: reason,
          byModel: null,
          byRules: rules,
        };
      });
      if (faults.size > 0) onFault({ requestId, service: service.name, code: "function_threw", names: [...faults] });
      return { asOfMs, rows: scored };
    },
  };
}

export type ScoreRunner = ReturnType<typeof createScoreRunner>;
export type { Explanation };

export const withoutModel = (service: string) =>
  new Problem("service_without_model", `service ${service} has no model and declares no fallback`, {
    field: "service",
    repair: "promote a model (freshet models promote), or declare fallback: rules(...) in its definition and deploy",
  });

const NO_MODELS: Served = { champion: null, challenger: null, shadow: null, share: null, fault: null };

/** Why the store gave nothing; null for any other error, which is a bug and must not pass for an outage. */
function storeFault(error: unknown): string | null {
  if (error instanceof InfrastructureError) return "store_unavailable";
  return error instanceof FreshetError && error.code === "read_overtaken" ? error.code : null;
}
