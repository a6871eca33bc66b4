/**
 * What the truth allows: ROC-AUC and average precision of the true probability as a score. Counted in bins of log odds, so
 * that millions of cases take no memory; equal bins are ties.
 */
const BINS = 8_192;
const LOW = -16;
const HIGH = 16;

export interface BestPossible {
  /** Payments, or items that were shown. */
  readonly cases: number;
  /** Frauds, or clicks. */
  readonly positives: number;
  /** Null without both kinds. */
  readonly rocAuc: number | null;
  /** Area under precision and recall, by steps (average precision). */
  readonly prAuc: number | null;
}

export class Ceiling {
  private readonly positives = new Float64Array(BINS);
  private readonly others = new Float64Array(BINS);

  add(probability: number, positive: boolean): void {
    const odds = Math.log(probability / (1 - probability));
    const bin = Math.min(BINS - 1, Math.max(0, Math.floor(((odds - LOW) / (HIGH - LOW)) * BINS)));
    (positive ? this.positives : this.others)[bin]++;
  }

  best(): BestPossible {
    const sum = (counts: Float64Array) => counts.reduce((a, b) => a + b, 0);
    const [positives, others] = [sum(this.positives), sum(this.others)];
    const counts = { cases: positives + others, positives };
    if (positives === 0 || others === 0) return { ...counts, rocAuc: null, prAuc: null };
    let ranked = 0;
    let precisions = 0;
    let [found, alarms] = [0, 0];
    // From the likeliest bin down: others below are ranked right, those in the same bin by half.
    for (let bin = BINS - 1; bin >= 0; bin--) {
      const [own, wrong] = [this.positives[bin], this.others[bin]];
      found += own;
      alarms += own + wrong;
      ranked += own * (others - (alarms - found) + wrong / 2);
      if (own > 0) precisions += own * (found / alarms);
    }
    return { ...counts, rocAuc: ranked / (positives * others), prAuc: precisions / positives };
  }
}
