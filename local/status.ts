/** What runs, and what the API says of the store. */
import { emulatorUrl } from "./emulator.ts";
import { PARTS, type PartName, serveUrl, valkeyUrl } from "./parts.ts";
import { isRunning, readRecord } from "./processes.ts";
import { readState } from "./state.ts";

/** Parts that do not run. */
export function missingParts(home: string): PartName[] {
  return PARTS.filter((name) => !isRunning(readRecord(home, name)));
}

export function isUp(home: string): boolean {
  return missingParts(home).length === 0;
}

/** What `freshet status --json` prints: all that a script needs to connect. */
export function describe(home: string): Record<string, unknown> {
  const state = readState(home);
  const { ports, deployment } = state;
  const url = (port: number | undefined, of: (port: number) => string): string | null =>
    port === undefined ? null : of(port);
  const shown = (name: PartName, at: string | null): Record<string, unknown> => {
    const record = readRecord(home, name);
    const running = isRunning(record);
    return { url: at, running, pid: running ? record?.pid : null };
  };
  return {
    running: isUp(home),
    home,
    api: { url: deployment?.apiUrl ?? null, key: state.apiKey ?? null },
    serve: shown("serve", url(ports.serve, serveUrl)),
    emulator: shown("emulator", url(ports.emulator, emulatorUrl)),
    valkey: shown("valkey", url(ports.valkey, valkeyUrl)),
    streams: deployment?.streams ?? {},
    environment: deployment?.environment ?? {},
    deployed_at_ms: deployment?.deployedAtMs ?? null,
  };
}

/** What `/ready` of the plain server says; null when it does not answer. */
export async function askReady(home: string): Promise<Readiness | null> {
  const { serve } = readState(home).ports;
  if (serve === undefined || !isRunning(readRecord(home, "serve"))) return null;
  try {
    const answer = await fetch(`${serveUrl(serve)}/ready`, { signal: AbortSignal.timeout(5_000) });
    return (await answer.json()) as Readiness;
  } catch {
    return null;
  }
}

export interface Readiness {
  /** Of a 503 there is a `detail`, of a degraded 200 a `reason`. */
  readonly detail?: string;
  readonly reason?: string;
  readonly repair?: string;
  readonly checks?: { readonly online_store?: { readonly control?: string } };
}

export const storeIsOk = (ready: Readiness | null): boolean => ready?.checks?.online_store?.control === "ok";
