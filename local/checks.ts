import type { Health } from "../functions/mapping/health.ts";
import { stackNames } from "./deploy.ts";
import { emulatorOf } from "./emulator-kinds.ts";
import { pingKafka } from "./kafka/topics.ts";
import { pingHttp, serveUrl } from "./parts.ts";
import type { Deployment, LaptopPorts } from "./state.ts";
import { pingValkey } from "./valkey.ts";

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** The cause when it is not ok. */
  readonly detail: string;
  readonly ms: number;
}

/** A function's first call starts a process, which takes seconds on a busy machine: slow is no fault, and each check tells its time. */
const PATIENCE_MS = 20_000;

/** Asks every part whether it works, all at once. */
export function checkParts(home: string, ports: LaptopPorts, deployment: Deployment): Promise<Check[]> {
  const stacks = async (): Promise<string> => {
    const present = await stackNames(ports.emulator);
    const missing = deployment.stacks.filter((stack) => !present.includes(stack));
    return missing.length === 0 ? "" : `missing: ${missing.join(", ")}; run make deploy`;
  };
  const yes = async (answer: Promise<boolean>, cause: string): Promise<string> => ((await answer) ? "" : cause);
  return Promise.all([
    check("Valkey", () =>
      yes(pingValkey(ports.valkey, undefined, PATIENCE_MS), "does not answer PING; run make logs, or make up again"),
    ),
    check("AWS emulator", () => yes(emulatorOf(home).ping(ports.emulator, PATIENCE_MS), "is not ready")),
    ...(ports.kafka === undefined
      ? []
      : [
          check("Kafka", () => yes(pingKafka(ports.kafka!), "knows of no broker")),
          check("mapping of Kafka", () => moves(`${serveUrl(ports.mapping!)}/health`)),
        ]),
    check("stacks", stacks),
    check("API Gateway /health", () =>
      yes(pingHttp(`${deployment.apiUrl}/health`, PATIENCE_MS), "does not answer 200"),
    ),
    check("API Gateway /ready", () => ready(deployment.apiUrl)),
    check("plain server /health", () =>
      yes(pingHttp(`${serveUrl(ports.serve)}/health`, PATIENCE_MS), "does not answer 200"),
    ),
    check("plain server /ready", () => ready(serveUrl(ports.serve))),
  ]);
}

/** `/ready` says itself what is wrong. It answers 200 as long as it can serve, degraded too. */
async function ready(url: string): Promise<string> {
  const answer = await fetch(`${url}/ready`, { signal: AbortSignal.timeout(PATIENCE_MS) });
  const text = await answer.text();
  if (!answer.ok) return `${answer.status}: ${text.slice(0, 300)}`;
  const { status, reason, repair } = JSON.parse(text) as { status: string; reason?: string; repair?: string };
  return status === "ready" ? "" : `${status}: ${reason ?? "no reason given"}; ${repair ?? ""}`;
}

/** A partition that waits for one batch works as it should, and somebody has to look why. */
async function moves(url: string): Promise<string> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS) });
  const { status, partitions } = (await answer.json()) as Health;
  const blocked = partitions.filter(({ attempts }) => attempts > 0);
  if (status === "ok" && blocked.length === 0) return "";
  const waiting = blocked.map(({ topic, partition, attempts }) => `${topic}-${partition} after ${attempts} attempts`);
  return `${[status, ...waiting].join(", ")}; run freshet logs mapping`;
}

async function check(name: string, ask: () => Promise<string>): Promise<Check> {
  const start = performance.now();
  const detail = await ask().catch((error: Error) =>
    error.cause instanceof Error ? error.cause.message : error.message,
  );
  return { name, ok: detail === "", detail, ms: Math.round(performance.now() - start) };
}
