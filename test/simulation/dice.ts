/**
 * All chance of a run. A draw is a hash of the seed and a label, not the next of a sequence: so what is decided at one place
 * doesn't change when something elsewhere is left out, and a failing run can be shrunk.
 */
export class Dice {
  readonly seed: number;
  /** Only these faults happen; null lets all of them. */
  readonly only: ReadonlySet<string> | null;
  /** Faults that have happened, in order. */
  readonly fired: string[] = [];
  /** Likewise, by kind. */
  readonly counts = new Map<string, number>();
  private readonly weights: Readonly<Record<string, number>>;

  /** @param weights by which the probabilities of each kind of fault are multiplied; 1 where it is not named */
  constructor(seed: number, weights: Readonly<Record<string, number>> = {}, only: ReadonlySet<string> | null = null) {
    this.seed = seed;
    this.weights = weights;
    this.only = only;
  }

  /** In [0, 1), always the same for a label. */
  unit(label: string): number {
    // FNV-1a over the label, then murmur3's finalizer: neighbouring labels have nothing in common.
    let mixed = (this.seed ^ 0x811c9dc5) >>> 0;
    for (let i = 0; i < label.length; i++) mixed = Math.imul(mixed ^ label.charCodeAt(i), 0x01000193);
    mixed = Math.imul(mixed ^ (mixed >>> 16) ^ this.seed, 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  }

  /** A whole number in [0, bound). */
  below(label: string, bound: number): number {
    return Math.floor(this.unit(label) * bound);
  }

  between(label: string, from: number, to: number): number {
    return from + this.unit(label) * (to - from);
  }

  pick<T>(label: string, items: readonly T[]): T {
    return items[this.below(label, items.length)];
  }

  /** Whether a fault happens here; each is named `kind@where`, which is how a shrunk schedule tells of it. */
  fault(kind: string, where: string, probability: number): boolean {
    const name = `${kind}@${where}`;
    if (this.only !== null ? !this.only.has(name) : this.unit(name) >= probability * (this.weights[kind] ?? 1)) {
      return false;
    }
    this.fired.push(name);
    this.happened(kind);
    return true;
  }

  /** Counts what is no chance of its own, but comes of others: a restore after a loss. */
  happened(kind: string, times = 1): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + times);
  }
}
