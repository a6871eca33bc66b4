import { formatTable } from "./table.ts";

/** The status as a person reads it. */
export function formatStatus(status: Record<string, any>): string {
  const { api, serve, emulator, valkey, streams } = status;
  const mark = (part: { running: boolean; pid: number | null }): string =>
    part.running ? `running (pid ${part.pid})` : "not running";
  return formatTable([
    ["API (plain server)", serve.url ?? "-", mark(serve)],
    ["  documentation", serve.url === null ? "-" : `${serve.url}/docs`],
    ["API (API Gateway)", api.url ?? "-"],
    ["API key", api.key ?? "-"],
    ["AWS emulator", emulator.url ?? "-", mark(emulator)],
    ["Valkey", valkey.url ?? "-", mark(valkey)],
    ["streams", Object.values(streams).join(" ") || "-"],
  ]);
}
