/** What runs, and what the API says of the store. */
import type { ViewReadiness } from "../functions/shared/build/build-readiness.ts";
import { emulatorUrl } from "./emulator.ts";
import { emulatorOf } from "./emulator-kinds.ts";
import { bootstrapOf } from "./kafka/broker.ts";
import { type LateBacklog, readLateBacklog } from "./late.ts";
import { isExternal, type PartName, partsOf, serveUrl, valkeyUrl } from "./parts.ts";
import { isRunning, readRecord } from "./processes.ts";
import { unreadyViews } from "./readiness.ts";
import { readState } from "./state.ts";

/** Parts that do not run. */
export function missingParts(home: string): PartName[] {
  return partsOf(readState(home)).filter((name) => !runs(home, name));
}

/** Of a part that somebody else starts nothing is known until it is asked. */
const runs = (home: string, name: PartName): boolean => isExternal(home, name) || isRunning(readRecord(home, name));

export function isUp(home: string): boolean {
  return missingParts(home).length === 0;
}

/** What `freshet status --json` prints beside the state of the store: all that a script needs to connect. */
export function describe(home: string): Record<string, unknown> {
  const state = readState(home);
  const { ports, deployment } = state;
  const url = (port: number | undefined, of: (port: number) => string): string | null =>
    port === undefined ? null : of(port);
  const shown = (name: PartName, at: string | null): Record<string, unknown> => {
    const record = readRecord(home, name);
    return { url: at, running: runs(home, name), pid: isRunning(record) ? record?.pid : null };
  };
  return {
    running: isUp(home),
    home,
    api: { url: deployment?.apiUrl ?? null, key: state.apiKey ?? null },
    serve: shown("serve", url(ports.serve, serveUrl)),
    emulator: { name: emulatorOf(home).name, ...shown("emulator", url(ports.emulator, emulatorUrl)) },
    valkey: shown("valkey", url(ports.valkey, valkeyUrl)),
    broker: state.broker ?? "kinesis",
    ...(state.broker === "kafka"
      ? {
          kafka: shown("kafka", url(ports.kafka, bootstrapOf)),
          mapping: shown("mapping", url(ports.mapping, serveUrl)),
        }
      : {}),
    streams: deployment?.streams ?? {},
    environment: deployment?.environment ?? {},
    deployed_at_ms: deployment?.deployedAtMs ?? null,
  };
}

/** The store's state in the words of `/ready`, and what waits for repair; nothing of it is known while parts are missing. */
export interface StoreStatus {
  readonly store: { readonly state: string; readonly sentence: string | null; readonly repair: string | null };
  /** By stream; null where it cannot be counted. */
  readonly late: Readonly<Record<string, LateBacklog>> | null;
  /** Views that lack some of their history; null where it cannot be told. */
  readonly unready: readonly ViewReadiness[] | null;
}

export async function describeStore(home: string): Promise<StoreStatus> {
  const { ports, deployment } = readState(home);
  const emulatorRuns = ports.emulator !== undefined && runs(home, "emulator");
  const late =
    emulatorRuns && deployment !== undefined
      ? await readLateBacklog(ports.emulator, deployment).catch(() => null)
      : null;
  const valkeyRuns = ports.valkey !== undefined && runs(home, "valkey");
  const store = await askStore(home);
  // A store that is lost has no slot that was born: it lacks more than history, and a backfill would not help.
  const hasHistory = valkeyRuns && store.state !== "lost" && store.state !== "restoring";
  const unready = hasHistory ? await unreadyViews(ports.valkey!).catch(() => null) : null;
  return { store, late, unready };
}

export async function askStore(home: string): Promise<StoreStatus["store"]> {
  const ready = await askReady(home);
  const state = ready?.checks?.online_store?.control ?? "unknown";
  const full = state === "ok" && (ready?.checks?.online_store?.full ?? false);
  const reachable = ready?.checks?.online_store?.reachable ?? true;
  return {
    state: reachable ? (full ? "full" : state) : "unreachable",
    sentence: ready === null ? "the API server does not answer" : (ready.reason ?? ready.detail ?? null),
    repair: ready === null ? "run `freshet up`" : (ready.repair ?? null),
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
  readonly checks?: {
    readonly online_store?: {
      readonly control?: string;
      readonly reachable?: boolean;
      readonly full?: boolean;
      /** By stream, in epoch milliseconds. */
      readonly seals_ms?: Readonly<Record<string, number>>;
    };
  };
}

export const storeIsOk = (ready: Readiness | null): boolean => ready?.checks?.online_store?.control === "ok";
