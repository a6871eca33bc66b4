/** Brings events from the archive into a store that is being restored from a snapshot older than what the broker holds. */
import type { BuildEvent } from "../functions/build.ts";
import type { GapReport } from "../functions/shared/replay/archive-gap.ts";
import type { OperatedDeployment } from "./deployment.ts";
import type { Functions } from "./invoke.ts";

/** An event may be ahead of its arrival by a minute; while the broker is read, its oldest records go on expiring. */
export const OVERLAP_MS = 3_600_000;
/** Of one call: after it the progress is told. */
const BUDGET_MS = 20_000;

export interface GapSource {
  readonly functions: Pick<Functions, "invoke">;
  readonly deployment: Pick<OperatedDeployment, "buildFunction">;
  readonly progress: (message: string) => void;
  readonly clock: () => number;
}

/** Of one stream, from the seal that its store was restored with. */
export class ArchiveGapReplay {
  private readonly source: GapSource;
  private readonly stream: string;
  /** Event time before which all is there, or comes from the broker. */
  private doneMs: number;

  constructor(source: GapSource, of: { readonly stream: string; readonly sealMs: number }) {
    this.source = source;
    this.stream = of.stream;
    this.doneMs = of.sealMs;
  }

  /** @throws FreshetError `recovery_incomplete` when the archive doesn't reach back either: before anything is changed */
  async check(): Promise<void> {
    await this.call(this.doneMs);
  }

  /**
   * All that the broker may have lost.
   * @param heldSinceMs arrivals before it
   * @returns events that were missing, and rows that were read
   */
  async run(heldSinceMs: number): Promise<{ readonly records: number; readonly applied: number }> {
    const { clock, progress } = this.source;
    let [records, applied] = [0, 0];
    // Once: now is another one after each call.
    const toMs = Math.min(clock(), heldSinceMs + OVERLAP_MS);
    while (this.doneMs < toMs) {
      const report = await this.call(toMs);
      this.doneMs = report.nextMs;
      records += report.events;
      applied += report.applied;
      const until = new Date(this.doneMs).toISOString();
      progress(`${this.stream}: ${records} rows of the archive until ${until}, ${applied} events were missing`);
    }
    return { records, applied };
  }

  private call(toMs: number): Promise<GapReport> {
    const { functions, deployment } = this.source;
    const event: BuildEvent = { kind: "gap", stream: this.stream, fromMs: this.doneMs, toMs, budgetMs: BUDGET_MS };
    return functions.invoke<GapReport>(deployment.buildFunction, event);
  }
}
