/** Where answers come from, which dependency is spared calls, and how much there is to do: for the Prometheus page. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { ReadEvents } from "../../../adapters/online-store/fallback-reader.ts";
import type { LoadGate } from "../admission/load-gate.ts";

/** In seconds; ends above any budget. */
const FALLBACK_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1];

export function createReadTelemetry(registry: Registry): ReadEvents {
  const registers = [registry];
  const reads = new Counter({
    name: "freshet_reads_total",
    help: "Reads by what answered them: store, snapshot (for some or all of the entities), nothing.",
    labelNames: ["by"],
    registers,
  });
  const took = new Histogram({
    name: "freshet_fallback_duration_seconds",
    help: "Time that reads took which the online store did not answer, its share included.",
    labelNames: ["by"],
    buckets: FALLBACK_SECONDS,
    registers,
  });
  const losses = new Counter({
    name: "freshet_snapshot_losses_total",
    help: "Entities without an answer from a snapshot, by reason.",
    labelNames: ["reason"],
    registers,
  });
  const open = new Gauge({
    name: "freshet_breaker_open",
    help: "1 while calls go without this dependency because it does not answer.",
    labelNames: ["of"],
    registers,
  });
  const changes = new Counter({
    name: "freshet_breaker_changes_total",
    help: "How often a breaker has opened or closed.",
    labelNames: ["of", "to"],
    registers,
  });
  for (const from of ["store", "snapshots"]) open.labels(from).set(0);
  const byStore = reads.labels("store");
  return {
    answered(by, tookMs) {
      if (by === "store") {
        byStore.inc();
        return;
      }
      reads.labels(by).inc();
      took.labels(by).observe(tookMs / 1_000);
    },
    lost(reason) {
      losses.labels(reason).inc();
    },
    breaker(of, isOpen) {
      open.labels(of).set(isOpen ? 1 : 0);
      changes.labels(of, isOpen ? "open" : "closed").inc();
    },
  };
}

export function createLoadMetrics(
  registry: Registry,
  gate: Pick<LoadGate, "calls" | "uploads" | "shed" | "large">,
): void {
  const registers = [registry];
  new Gauge({
    name: "freshet_calls_under_way",
    help: "Calls with a key that have begun and are not answered, without slow uploads.",
    registers,
    collect() {
      this.set(gate.calls);
    },
  });
  new Gauge({
    name: "freshet_calls_uploading",
    help: "Calls with a key whose body has been on its way for more than a second.",
    registers,
    collect() {
      this.set(gate.uploads);
    },
  });
  new Gauge({
    name: "freshet_large_calls_waiting",
    help: "Calls with many rows that wait for their turn.",
    registers,
    collect() {
      this.set(gate.large.waiting);
    },
  });
  new Gauge({
    name: "freshet_calls_shed",
    help: "Calls turned away because this host had too many, since its start.",
    registers,
    collect() {
      this.set(gate.shed);
    },
  });
}
