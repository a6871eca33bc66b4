/** A binary heap by time; equal times leave in the order in which they were added, so that a run repeats exactly. */
export class TimeQueue<T> {
  private readonly heap: { readonly timeMs: number; readonly order: number; readonly item: T }[] = [];
  private added = 0;

  get size(): number {
    return this.heap.length;
  }

  add(timeMs: number, item: T): void {
    const { heap } = this;
    heap.push({ timeMs, order: this.added++, item });
    let at = heap.length - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(at, parent)) break;
      this.swap(at, parent);
      at = parent;
    }
  }

  take(): T | null {
    const { heap } = this;
    if (heap.length === 0) return null;
    const [{ item }] = heap;
    const end = heap.pop()!;
    if (heap.length > 0) heap[0] = end;
    for (let at = 0; ; ) {
      let smallest = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && this.before(child, smallest)) smallest = child;
      }
      if (smallest === at) return item;
      this.swap(at, smallest);
      at = smallest;
    }
  }

  private before(a: number, b: number): boolean {
    const { heap } = this;
    return heap[a].timeMs < heap[b].timeMs || (heap[a].timeMs === heap[b].timeMs && heap[a].order < heap[b].order);
  }

  private swap(a: number, b: number): void {
    const { heap } = this;
    [heap[a], heap[b]] = [heap[b], heap[a]];
  }
}
