/**
 * Rows that callers push, on their way into the archive. A push waits for its object; those that come while one is being written share
 * the next, so that a busy tenant costs a few objects a second and no more.
 */
import { writeLines } from "./values-format.ts";

/** An object has no more than this before compression, so that nobody waits long for one. */
const MAX_BYTES = 8 * 1024 * 1024;
/** Objects of one tenant and view that are written at once. */
const LANES = 2;

interface Batch {
  readonly lines: string[];
  bytes: number;
  firstMs: number;
  readonly done: Promise<void>;
  readonly settle: (written: Promise<unknown>) => void;
}
interface Queue {
  readonly tenant: string;
  readonly view: string;
  readonly waiting: Batch[];
  writing: number;
}

export class ValuesArchive {
  readonly #to: Parameters<typeof writeLines>[0];
  readonly #queues = new Map<string, Queue>();

  constructor(to: Parameters<typeof writeLines>[0]) {
    this.#to = to;
  }

  /**
   * Returns when the rows are in the archive.
   * @param lines by `packedLine`, of one tenant and view
   * @param firstMs the least of their visible times
   * @throws InfrastructureError `archive_unavailable`: none of them may be acknowledged
   */
  append(tenant: string, view: string, lines: string, firstMs: number): Promise<void> {
    const name = `${tenant}/${view}`;
    const queue = this.#queues.get(name) ?? { tenant, view, waiting: [], writing: 0 };
    this.#queues.set(name, queue);
    let batch = queue.waiting.at(-1);
    if (batch === undefined || batch.bytes + lines.length > MAX_BYTES) {
      batch = openBatch();
      queue.waiting.push(batch);
    }
    batch.lines.push(lines);
    batch.bytes += lines.length;
    batch.firstMs = Math.min(batch.firstMs, firstMs);
    this.#pump(name, queue);
    return batch.done;
  }

  #pump(name: string, queue: Queue): void {
    if (queue.writing >= LANES) return;
    const batch = queue.waiting.shift();
    if (batch === undefined) {
      if (queue.writing === 0) this.#queues.delete(name);
      return;
    }
    queue.writing++;
    const written = writeLines(this.#to, queue, batch.firstMs, batch.lines).finally(() => {
      queue.writing--;
      this.#pump(name, queue);
    });
    batch.settle(written);
  }
}

function openBatch(): Batch {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    lines: [],
    bytes: 0,
    firstMs: Number.POSITIVE_INFINITY,
    done: promise,
    // A failure is that of all who wait for the object.
    settle: (written) => resolve(written.then(() => {})),
  };
}
