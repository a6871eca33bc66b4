/** Who scores a request, and whether it is logged: decided by hashes, so that every process decides alike. */
import type { ExperimentDefinition, FeatureServiceDefinition, OutcomeDefinition } from "../definition.ts";
import { DefinitionError } from "../errors.ts";
import type { Hash64 } from "../event.ts";
import type { Plan, Scalar, Service } from "../plan.ts";
import { literalsOf } from "../where.ts";

/** Where a text falls in [0, 1): the upper 53 bits of its hash. */
export function fractionOf(text: string, hash64: Hash64): number {
  return Number(BigInt(`0x${hash64(text)}`) >> 11n) / 2 ** 53;
}

/**
 * Whether the challenger scores a key. A greater share keeps the keys that a smaller one had.
 * @param value null or undefined for a request without the key, which the champion scores
 */
export function isChallenged(
  service: string,
  experiment: ExperimentDefinition,
  share: number,
  value: Scalar | undefined,
  hash64: Hash64,
): boolean {
  if (value === null || value === undefined) return false;
  return fractionOf(`${experiment.salt ?? service}/${value}`, hash64) < share;
}

/**
 * A service's experiment. One that declares none deals nothing by itself, and by its first entity's key when an alias gives a
 * share: not by a candidate's, since scores of two models do not make one ranking.
 */
export function experimentOf(
  plan: Pick<Plan, "entities">,
  service: Pick<Service, "entities" | "candidate">,
  { experiment }: Pick<FeatureServiceDefinition, "experiment">,
): ExperimentDefinition {
  if (experiment !== null) return experiment;
  const first = plan.entities.find(({ name }) => service.entities.includes(name) && name !== service.candidate);
  return { key: first?.joinKey ?? "", challenger: 0 };
}

/** @throws DefinitionError `experiment_invalid`, `labels_invalid`, `log_invalid`, `decision_invalid`, `gate_invalid` */
export function checkServing(
  plan: Pick<Plan, "entities" | "streams">,
  service: Service,
  definition: FeatureServiceDefinition,
): void {
  const { experiment, labels, log, decision, gate } = definition;
  const refuse = (code: string, message: string, repair: string) => {
    throw new DefinitionError(code, `service ${service.name}: ${message}`, { field: service.name, repair });
  };
  const keys = plan.entities.filter(({ name }) => service.entities.includes(name)).map(({ joinKey }) => joinKey);
  const fields = Object.keys(service.request);
  if (experiment !== null) {
    const { key, challenger } = experiment;
    const known = [...keys, ...fields];
    if (!known.includes(key)) refuse("experiment_invalid", `experiment by ${key}`, `use one of ${known.join(", ")}`);
    if (!isShare(challenger)) refuse("experiment_invalid", `challenger gets ${challenger}`, "use a share from 0 to 1");
    // Request fields may be a candidate's own, as its id is.
    const shared = plan.entities.filter(({ name }) => service.entities.includes(name) && name !== service.candidate);
    if (service.candidate !== undefined && shared.every(({ joinKey }) => joinKey !== key)) {
      const others = shared.map(({ joinKey }) => joinKey).join(", ");
      refuse("experiment_invalid", `${key} may deal the candidates of one ranking apart`, `use one of ${others}`);
    }
  }
  if (labels?.outcome) checkOutcome(plan, labels.stream.name, labels.outcome, refuse);
  if (!isShare(log.sample)) refuse("log_invalid", `log samples ${log.sample}`, "use a share from 0 to 1");
  for (const name of log.pii) {
    if (!fields.includes(name))
      refuse("log_invalid", `pii ${name} is no request field`, `use one of ${fields.join(", ")}`);
    // The log keeps both as they are: joins need them.
    const plain = keys.includes(name)
      ? "join key"
      : plan.streams.some(({ eventId }) => eventId === name)
        ? "event id"
        : null;
    if (plain === null) continue;
    refuse(
      "log_invalid",
      `pii ${name} is a ${plain} too, which is logged as it is`,
      "let callers send a pseudonym for it",
    );
  }
  if (decision !== null && !(decision.review > 0 && decision.review <= decision.decline && decision.decline <= 1)) {
    const given = `review ${decision.review} and decline ${decision.decline}`;
    refuse("decision_invalid", `0 < review <= decline <= 1 must hold, given ${given}`, "set review below decline");
  }
  const limits = gate === null ? [] : [gate.tolerance, ...Object.values(gate.guards)];
  const wrong = limits.find((limit) => !(limit >= 0));
  if (wrong !== undefined)
    refuse("gate_invalid", `the gate allows ${wrong}`, "use a share of the champion's value, as 0.1");
}

function checkOutcome(
  plan: Pick<Plan, "streams">,
  streamName: string,
  { of, namedBy }: OutcomeDefinition,
  refuse: (code: string, message: string, repair: string) => void,
): void {
  const stream = plan.streams.find(({ name }) => name === streamName);
  const fields = stream?.fields ?? {};
  const known = `use a field of stream ${streamName}: ${Object.keys(fields).join(", ")}`;
  for (const { field } of literalsOf(of.where)) {
    if (!(field in fields)) refuse("labels_invalid", `the judged events are told by ${field}`, known);
  }
  if (fields[namedBy]?.type === "string" && namedBy !== stream?.eventId) return;
  refuse("labels_invalid", `events are named by ${namedBy}, which holds no other event's id`, known);
}

const isShare = (value: number): boolean => value >= 0 && value <= 1;
