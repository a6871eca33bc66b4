import { FreshetError } from "../core/errors.ts";

/** Thrown where work stops because the user asked for it. */
export class InterruptedError extends FreshetError {
  override readonly name = "InterruptedError";
  constructor(signal: string) {
    super("interrupted", `stopped by ${signal}`);
  }
}

/**
 * Runs work that stops at Ctrl-C (SIGINT), SIGTERM or a closed terminal (SIGHUP) by its abort signal instead of by the end of
 * this process, so that it can end what it has started. Signals that follow are ignored until it is done.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (name: NodeJS.Signals): void => {
    if (!controller.signal.aborted) controller.abort(new InterruptedError(name));
  };
  const names: NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const name of names) process.on(name, stop);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of names) process.off(name, stop);
  }
}

/**
 * The same for work without an end of its own, as watching: Ctrl-C is how it ends, or that nobody reads its output any
 * more (`| head`), and neither is a failure.
 */
export function untilInterrupted(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  return interruptible(async (interrupted) => {
    const unread = new AbortController();
    const end = (): void => unread.abort();
    process.stdout.on("error", end);
    const signal = AbortSignal.any([interrupted, unread.signal]);
    try {
      await work(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      process.stdout.off("error", end);
    }
  });
}
