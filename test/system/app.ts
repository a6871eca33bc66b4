/** The deployed app as its operators and callers reach it: HTTP, the broker, the emulator's services, the online store. */
import { setTimeout as sleep } from "node:timers/promises";
import { GetFunctionConfigurationCommand, InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { settle as settleStreams } from "../../local/settle.ts";
import { type Deployment, readState } from "../../local/state.ts";
import { deployed, deployedClientConfig } from "../support/deployed.ts";

export interface Answer {
  readonly status: number;
  readonly body: any;
}

/** @param base an API: that of the plain server, or the one behind API Gateway */
export async function call(base: string, path: string, key: string | null, body?: unknown): Promise<Answer> {
  const answer = await fetch(base + path, {
    method: body === undefined ? "GET" : "POST",
    headers: { ...(key === null ? {} : { "x-api-key": key }), "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
  return { status: answer.status, body: await answer.json() };
}

/** What `/ready` says: its status code, its own word for the whole, and the store's control state. */
export async function readiness(): Promise<{ status: number; control: string; reachable: boolean; repair: string }> {
  const { status, body } = await call(deployed().serve.url, "/ready", null);
  const { control, reachable } = body.checks.online_store;
  return { status, control, reachable, repair: body.repair ?? "" };
}

/**
 * Polls until the probe has something to say.
 * @param what completes "waited 30 s for …"
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T | null | undefined | false>,
  timeoutMs = 30_000,
  everyMs = 50,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await probe();
      if (found) return found;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s for ${what}`, { cause: last });
    await sleep(everyMs);
  }
}

export function deployment(): Deployment {
  const { deployment } = readState(deployed().home);
  if (deployment === undefined) throw new Error("nothing is deployed");
  return deployment;
}

const functionName = (name: string): string => deployment().controlFunction.replace(/control$/, name);

/** Variables of a deployed function: names of what it writes to. */
export async function functionEnvironment(name: string): Promise<Readonly<Record<string, string>>> {
  const lambda = new LambdaClient(deployedClientConfig());
  try {
    const answer = await lambda.send(new GetFunctionConfigurationCommand({ FunctionName: functionName(name) }));
    return answer.Environment?.Variables ?? {};
  } finally {
    lambda.destroy();
  }
}

/** @throws Error with the function's own message when it failed */
export async function invoke(name: string, event: unknown = {}): Promise<unknown> {
  const lambda = new LambdaClient(deployedClientConfig());
  try {
    const answer = await lambda.send(
      new InvokeCommand({ FunctionName: functionName(name), Payload: JSON.stringify(event) }),
    );
    const payload = JSON.parse(answer.Payload?.transformToString() || "null");
    if (answer.FunctionError !== undefined) throw new Error(`${name} failed: ${payload?.errorMessage}`);
    return payload;
  } finally {
    lambda.destroy();
  }
}

/** A connection to the deployed store for the length of `use`. */
export async function withStore<T>(use: (connection: ValkeyConnection) => Promise<T>): Promise<T> {
  const { hostname, port } = new URL(deployed().valkey.url);
  const connection = new ValkeyConnection({ host: hostname, port: Number(port) });
  try {
    return await use(connection);
  } finally {
    await connection.close();
  }
}

/** Waits until all that was put before the call is applied, set aside, archived and acknowledged. */
export async function settle(streams: readonly string[], timeoutMs = 45_000): Promise<void> {
  const { ports, deployment } = readState(deployed().home);
  const named = streams.map((stream) => [stream, deployed().streams[stream]] as const);
  const some = { environment: deployment!.environment, streams: Object.fromEntries(named) };
  await settleStreams(ports as { emulator: number; valkey: number }, some, timeoutMs);
}
