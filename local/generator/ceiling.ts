/**
 * What the truth allows: ROC-AUC and average precision of the true probability as a score. Counted in bins of log odds, so
 * that millions of payments take no memory; equal bins are ties.
 */
const BINS = 8_192;
const LOW = -16;
const HIGH = 16;

export interface BestPossible {
  readonly payments: number;
  readonly frauds: number;
  /** Null without both kinds. */
  readonly rocAuc: number | null;
  /** Area under precision and recall, by steps (average precision). */
  readonly prAuc: number | null;
}

export class Ceiling {
  private readonly frauds = new Float64Array(BINS);
  private readonly honest = new Float64Array(BINS);

  add(probability: number, fraud: boolean): void {
    const odds = Math.log(probability / (1 - probability));
    const bin = Math.min(BINS - 1, Math.max(0, Math.floor(((odds - LOW) / (HIGH - LOW)) * BINS)));
    (fraud ? this.frauds : this.honest)[bin]++;
  }

  best(): BestPossible {
    const sum = (counts: Float64Array) => counts.reduce((a, b) => a + b, 0);
    const [frauds, honest] = [sum(this.frauds), sum(this.honest)];
    const counts = { payments: frauds + honest, frauds };
    if (frauds === 0 || honest === 0) return { ...counts, rocAuc: null, prAuc: null };
    let ranked = 0;
    let precisions = 0;
    let [found, alarms] = [0, 0];
    // From the most suspicious bin down: honest payments below are ranked right, those in the same bin by half.
    for (let bin = BINS - 1; bin >= 0; bin--) {
      const [own, wrong] = [this.frauds[bin], this.honest[bin]];
      found += own;
      alarms += own + wrong;
      ranked += own * (honest - (alarms - found) + wrong / 2);
      if (own > 0) precisions += own * (found / alarms);
    }
    return { ...counts, rocAuc: ranked / (frauds * honest), prAuc: precisions / frauds };
  }
}
