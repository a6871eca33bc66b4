/** How far back the broker reaches, also where a stream was lost and made again. */
import type { ListedStream } from "../adapters/broker/broker.ts";
import { FUTURE_LIMIT_MS } from "../core/event.ts";
import { OVERLAP_MS } from "./archive-gap.ts";

/** Clocks differ, and how old a topic of Kafka is its oldest record says: the first heartbeat, a minute or two later. */
const MADE_AGAIN_MS = 600_000;

/**
 * What the broker holds. Of a stream that was lost and made again it says that it holds all that ever came.
 * @param beganMs when control saw the stream first; undefined where it does not tell
 */
export function heldSince(listed: ListedStream, beganMs: number | undefined): ListedStream {
  const isMadeAgain = beganMs !== undefined && listed.createdAtMs > beganMs + MADE_AGAIN_MS;
  return isMadeAgain ? { ...listed, heldSinceMs: Math.max(listed.heldSinceMs, listed.createdAtMs) } : listed;
}

/** A snapshot may be older than the stream, which was lost and made again, or is another region's. */
export const comesSince = ({ heldSinceMs, createdAtMs }: ListedStream): number => Math.max(heldSinceMs, createdAtMs);

export const isWhole = ({ heldSinceMs }: ListedStream): boolean => heldSinceMs === Number.NEGATIVE_INFINITY;

/** Event time from which on the broker has all: some time later than what it holds now, since that goes on expiring while it is read. */
export function replayableMs({ heldSinceMs }: ListedStream, nowMs: number): number {
  return Math.min(heldSinceMs + OVERLAP_MS, Math.max(heldSinceMs + 2 * FUTURE_LIMIT_MS, nowMs - OVERLAP_MS));
}
