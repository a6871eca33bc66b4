import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { type FlowReader, openFlow, type StreamFlow } from "../../local/flow.ts";
import { freshetHome } from "../../local/home.ts";
import { untilInterrupted } from "../../local/interrupt.ts";
import { type LateBacklog, readLateBacklog } from "../../local/late.ts";
import { serveUrl } from "../../local/parts.ts";
import { askStore, type StoreStatus } from "../../local/status.ts";
import { type Running, requireRunning } from "../running.ts";
import { formatBacklog } from "../status-table.ts";
import { formatTable } from "../table.ts";

const INTERVAL_MS = 1_000;
const SAMPLES = 8;
const FEATURES_SHOWN = 4;
/** Counting reads the whole late queue, so it is not done with every look. */
const LATE_EVERY = 5;
const NONE: LateBacklog = { pending: 0, complete: true };

interface Snapshot {
  readonly at_ms: number;
  readonly streams: readonly (StreamFlow & {
    readonly events_per_s: number;
    /** Late events times their entities; null where it could not be counted. */
    readonly to_repair: LateBacklog | null;
  })[];
  /** `ok`, or what is wrong with the online store, as `/ready` says it. */
  readonly store: StoreStatus["store"];
  readonly entities: readonly { entity: string; id: string; features: Readonly<Record<string, unknown>> }[];
}

export function register(program: Command): void {
  program
    .command("inspect")
    .description("Watch events flow: rates, fates, lag, freshness and some entities, each second until Ctrl-C.")
    .option("--once", "one look over one second")
    .option("--json", "one JSON object a line")
    .addHelpText(
      "after",
      `
in           events that were taken from the broker, deliveries that were repeated included
duplicates   events that had been applied already: sent again by a producer, or delivered again by the broker
late         events below the seal; \`to repair\` counts them once for each of their entities, until repaired
quarantined  events that cannot be read or break their contract
waiting      broker records not yet applied (at least); lag: age of the oldest
freshness    arrival to servable, of the newest batch

Examples:
  freshet inspect
  freshet inspect --once --json`,
    )
    .action(async (options: { once?: boolean; json?: boolean }) => {
      const running = requireRunning(freshetHome());
      const flow = openFlow(running.ports, running.deployment);
      try {
        await untilInterrupted((signal) => watch(flow, running, options, signal));
      } finally {
        flow.close();
      }
    });
}

async function watch(
  flow: FlowReader,
  running: Running,
  options: { once?: boolean; json?: boolean },
  signal: AbortSignal,
): Promise<void> {
  let before = await flow.read();
  let beforeMs = performance.now();
  let late: Readonly<Record<string, LateBacklog>> = {};
  for (let look = 0; ; look++) {
    await sleep(INTERVAL_MS, undefined, { signal });
    const now = await flow.read();
    // Streams without a late event need no count.
    const withLate = now.filter((stream) => stream.late > 0).map(({ stream }) => stream);
    if (look % LATE_EVERY === 0) {
      late = await readLateBacklog(running.ports.emulator, running.deployment, withLate).catch(() => ({}));
    }
    const seconds = (performance.now() - beforeMs) / 1000;
    beforeMs = performance.now();
    const snapshot: Snapshot = {
      at_ms: Date.now(),
      streams: now.map((stream, i) => ({
        ...stream,
        events_per_s: Math.round((stream.in - before[i].in) / seconds),
        to_repair: stream.late === 0 ? NONE : (late[stream.stream] ?? null),
      })),
      store: await askStore(freshetHome()),
      entities: await sampleEntities(flow, running),
    };
    before = now;
    show(snapshot, options);
    if (options.once) return;
  }
}

async function sampleEntities(flow: FlowReader, running: Running): Promise<Snapshot["entities"]> {
  const samples = await flow.sample("default", SAMPLES);
  return Promise.all(
    samples.map(async ({ entity, id }) => {
      const url = `${serveUrl(running.ports.serve)}/v1/features/${entity}/${encodeURIComponent(id)}`;
      const answer = await fetch(url, { headers: { "x-api-key": running.apiKey } });
      const body = (await answer.json()) as { features?: Record<string, { value: unknown; status: string }> };
      const present = Object.entries(body.features ?? {}).filter(([, feature]) => feature.status === "PRESENT");
      return { entity, id, features: Object.fromEntries(present.map(([name, feature]) => [name, feature.value])) };
    }),
  );
}

function show(snapshot: Snapshot, options: { once?: boolean; json?: boolean }): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify(snapshot)}\n`);
    return;
  }
  // On a terminal each look takes the place of the one before.
  if (process.stdout.isTTY && !options.once) process.stdout.write("\x1b[H\x1b[2J");
  process.stdout.write(`${formatSnapshot(snapshot)}\n`);
}

export function formatSnapshot({ at_ms, streams, store, entities }: Snapshot): string {
  const flow = formatTable([
    [
      "stream",
      "events/s",
      "in",
      "applied",
      "duplicates",
      "late",
      "to repair",
      "quarantined",
      "waiting",
      "lag",
      "freshness",
    ],
    ...streams.map((s) => [
      s.stream,
      s.events_per_s,
      s.in,
      s.applied,
      s.duplicates,
      s.late,
      s.to_repair === null ? "?" : formatBacklog(s.to_repair),
      s.quarantined,
      s.waiting,
      `${s.lagMs} ms`,
      s.freshnessMs === null ? "-" : `${s.freshnessMs} ms`,
    ]),
  ]);
  const samples = formatTable(
    entities.map(({ entity, id, features }) => {
      const shown = Object.entries(features).slice(0, FEATURES_SHOWN);
      return [entity, id, shown.map(([name, value]) => `${name.split(":")[1]}=${value}`).join("  ") || "no event yet"];
    }),
  );
  const condition =
    store.state === "ok" ? "" : `  online store ${store.state}: ${store.sentence}\n    ${store.repair}\n`;
  const redelivered = "  duplicates: sent again by a producer, or delivered again by the broker";
  return `${new Date(at_ms).toISOString()}\n${condition}${flow}\n${redelivered}\n${samples === "" ? "  no entity yet" : samples}`;
}
