/** One benchmark in its own process: `node worker.ts <name> full|quick <broker>...`, with a channel to the process that started it. */
import type { LaptopBroker } from "../local/state.ts";
import { BENCHMARKS } from "./benchmark.ts";
import type { WorkerMessage } from "./run.ts";

const [name, mode, ...brokers] = process.argv.slice(2);
const send = (message: WorkerMessage): Promise<void> =>
  new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
const controller = new AbortController();
process.on("SIGTERM", () => controller.abort(new Error("stopped")));
// Whoever started this is gone: nothing is left to measure for.
process.on("disconnect", () => controller.abort(new Error("stopped")));

try {
  const { benchmark } = await BENCHMARKS[name].load();
  const rows = await benchmark.run({
    quick: mode === "quick",
    brokers: brokers as LaptopBroker[],
    signal: controller.signal,
    say: (say) => void send({ say }),
  });
  await send({ section: { name, title: benchmark.title, rows } });
} catch (error) {
  await send({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  process.exitCode = 1;
}
// A connection that a failure left open must not keep the process.
process.exit();
