/** What was run so far: counted, told in a line, and written down. */
import { cpus } from "node:os";
import { hash64 } from "../../adapters/hash.ts";
import type { RunReport } from "./run.ts";

export class Summary {
  runs = 0;
  updates = 0;
  private readonly startedMs = performance.now();
  private readonly firstSeed: number;
  private readonly commit: string;
  private readonly design: string;
  private readonly faults = new Map<string, number>();
  private totals = { events: 0, deliveries: 0, compared: 0, simulatedMs: 0, steps: 0 };
  private violations = 0;
  private cpuSeconds = 0;
  private trace = "";
  private first: string | null = null;

  constructor(firstSeed: number, commit: string, design: string) {
    this.firstSeed = firstSeed;
    this.commit = commit;
    this.design = design;
  }

  add(report: RunReport, cpuSeconds: number): void {
    this.runs++;
    this.updates += report.updates;
    this.cpuSeconds = cpuSeconds;
    this.violations += report.violations.length;
    this.first ??= report.violations[0] ?? null;
    this.trace = this.runs === 1 ? report.trace : hash64(this.trace + report.trace).slice(0, 8);
    for (const name of ["events", "deliveries", "compared", "simulatedMs", "steps"] as const)
      this.totals[name] += report[name];
    for (const [kind, count] of report.faults) this.faults.set(kind, (this.faults.get(kind) ?? 0) + count);
  }

  line(): string {
    const { seeds, entity_updates, updates_per_minute, updates_per_cpu_minute, violations } = this.data();
    return `seeds ${seeds.join(" to ")}: ${millions(entity_updates)} entity updates, ${millions(updates_per_minute)} a minute (${millions(updates_per_cpu_minute)} a minute of CPU), ${violations} wrong`;
  }

  text(): string {
    const { faults, values_compared, simulated_hours, trace } = this.data();
    const told = Object.entries(faults).map(([kind, count]) => `${kind} ${count}`);
    return `${this.line()}\n${values_compared} values compared, ${simulated_hours} hours simulated, trace ${trace}\nfaults: ${told.join(", ")}`;
  }

  json(): string {
    return `${JSON.stringify(this.data(), null, 2)}\n`;
  }

  private data() {
    const seconds = (performance.now() - this.startedMs) / 1_000;
    return {
      commit: this.commit,
      design: this.design,
      machine: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}`,
      node: process.version,
      seeds: [this.firstSeed, this.firstSeed + this.runs - 1],
      seconds: Math.round(seconds),
      cpu_seconds: Math.round(this.cpuSeconds),
      entity_updates: this.updates,
      updates_per_minute: Math.round((this.updates / seconds) * 60),
      updates_per_cpu_minute: Math.round((this.updates / this.cpuSeconds) * 60),
      events: this.totals.events,
      deliveries: this.totals.deliveries,
      steps: this.totals.steps,
      simulated_hours: Math.round(this.totals.simulatedMs / 3_600_000),
      values_compared: this.totals.compared,
      violations: this.violations,
      first_violation: this.first,
      trace: this.trace,
      faults: Object.fromEntries([...this.faults].sort(([a], [b]) => (a < b ? -1 : 1))),
    };
  }
}

const millions = (count: number): string => (count < 1e6 ? String(count) : `${(count / 1e6).toFixed(2)} M`);
