import { BUCKETS } from "../adapters/valkey/layout.ts";
import type { ViewReadiness } from "../functions/shared/build/build-readiness.ts";
import type { LateBacklog } from "../local/late.ts";
import type { StoreStatus } from "../local/status.ts";
import { formatTable } from "./table.ts";

/** The status as a person reads it. */
export function formatStatus(status: Record<string, any>, { store, late, unready }: StoreStatus): string {
  const { api, serve, emulator, valkey, kafka, mapping, streams } = status;
  const mark = (part: { running: boolean; pid: number | null }): string =>
    part.running ? `running (${part.pid === null ? "not by this command" : `pid ${part.pid}`})` : "not running";
  const parts = formatTable([
    ["API (plain server)", serve.url ?? "-", mark(serve)],
    ["  documentation", serve.url === null ? "-" : `${serve.url}/docs`],
    ["API (API Gateway)", api.url ?? "-"],
    ["API key", api.key ?? "-"],
    [`AWS emulator (${emulator.name})`, emulator.url ?? "-", mark(emulator)],
    ["Valkey", valkey.url ?? "-", mark(valkey)],
    ...(kafka === undefined ? [] : [["Kafka", kafka.url ?? "-", mark(kafka)]]),
    ...(mapping === undefined ? [] : [["mapping of Kafka", mapping.url ?? "-", mark(mapping)]]),
  ]);
  // Long lines of their own: in the table they would push its last column off the screen.
  const rows = [["streams", Object.values(streams).join(" ") || "-"]];
  if (store.state === "ok") rows.push(["online store", "ok"]);
  else {
    rows.push(["online store", [store.state, store.sentence].filter((part) => part !== null).join(": ")]);
    if (store.repair !== null) rows.push(["  repair", store.repair]);
  }
  rows.push(["late, to be repaired", formatLate(late)]);
  rows.push(...historyRows(unready));
  return `${parts}\n${formatTable(rows)}`;
}

/** What lacks its past, and how it gets it. */
export function historyRows(unready: readonly ViewReadiness[] | null): string[][] {
  if (unready === null) return [["history", "-"]];
  if (unready.length === 0) return [["history", "complete"]];
  return unready.map(({ view, bucketsReady, sinceMs }) => {
    const since = sinceMs === null ? "slots that are not born yet" : `from ${new Date(sinceMs).toISOString()} on`;
    const part = bucketsReady === 0 ? "" : `, ${bucketsReady} of ${BUCKETS} buckets complete`;
    return [`history of ${view}`, `${since}${part}: freshet backfill --view ${view}`];
  });
}

const formatLate = (late: StoreStatus["late"]): string => {
  if (late === null) return "-";
  const waiting = Object.entries(late).filter(([, { pending }]) => pending > 0);
  return waiting.map(([stream, backlog]) => `${stream} ${formatBacklog(backlog)}`).join(", ") || "none";
};

export const formatBacklog = ({ pending, complete }: LateBacklog): string => `${complete ? "" : "at least "}${pending}`;
