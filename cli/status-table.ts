import type { LateBacklog } from "../local/late.ts";
import type { StoreStatus } from "../local/status.ts";
import { formatTable } from "./table.ts";

/** The status as a person reads it. */
export function formatStatus(status: Record<string, any>, { store, late }: StoreStatus): string {
  const { api, serve, emulator, valkey, streams } = status;
  const mark = (part: { running: boolean; pid: number | null }): string =>
    part.running ? `running (pid ${part.pid})` : "not running";
  const parts = formatTable([
    ["API (plain server)", serve.url ?? "-", mark(serve)],
    ["  documentation", serve.url === null ? "-" : `${serve.url}/docs`],
    ["API (API Gateway)", api.url ?? "-"],
    ["API key", api.key ?? "-"],
    ["AWS emulator", emulator.url ?? "-", mark(emulator)],
    ["Valkey", valkey.url ?? "-", mark(valkey)],
  ]);
  // Long lines of their own: in the table they would push its last column off the screen.
  const rows = [["streams", Object.values(streams).join(" ") || "-"]];
  if (store.state === "ok") rows.push(["online store", "ok"]);
  else {
    rows.push(["online store", [store.state, store.sentence].filter((part) => part !== null).join(": ")]);
    if (store.repair !== null) rows.push(["  repair", store.repair]);
  }
  rows.push(["late, to be repaired", formatLate(late)]);
  return `${parts}\n${formatTable(rows)}`;
}

const formatLate = (late: StoreStatus["late"]): string => {
  if (late === null) return "-";
  const waiting = Object.entries(late).filter(([, { pending }]) => pending > 0);
  return waiting.map(([stream, backlog]) => `${stream} ${formatBacklog(backlog)}`).join(", ") || "none";
};

export const formatBacklog = ({ pending, complete }: LateBacklog): string => `${complete ? "" : "at least "}${pending}`;
