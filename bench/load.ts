/**
 * Closed-loop load over plain sockets: each connection sends the next request when the answer to the last one is whole. Runs
 * in a process of its own (load-process.ts), and does as little as it can beside stamping times, so that what is
 * measured is the server. Loopback only.
 */
import { connect, type Socket } from "node:net";
import { LOOPBACK } from "../local/ports.ts";
import { percentile } from "./statistics.ts";

export interface LoadOrder {
  readonly port: number;
  /** Finds the end of an answer: HTTP by content-length, RESP for one bulk string. */
  readonly protocol: "http" | "resp";
  /** Whole requests as they go to the socket, taken in turn. */
  readonly requests: readonly Buffer[];
  readonly connections: number;
  readonly durationMs: number;
  /** Between an answer and the same connection's next request. @default none */
  readonly pauseMs?: number;
  /** Counts answers other than 200 instead of failing at the first. */
  readonly tolerant?: boolean;
}
export interface LoadResult {
  /** That were answered with 200; the figures are theirs. */
  readonly requests: number;
  readonly failed: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly slowestMs: number;
  /** Length of the last answer, to see that servers answer alike. */
  readonly answerBytes: number;
}

export async function load(order: LoadOrder): Promise<LoadResult> {
  const latencies: number[] = [];
  const state = { next: 0, until: performance.now() + order.durationMs, answerBytes: 0, failed: 0 };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: order.connections }, () => drive(order, state, latencies)));
  const seconds = (performance.now() - startedAt) / 1000;
  const sorted = Float64Array.from(latencies).sort();
  return {
    requests: latencies.length,
    failed: state.failed,
    perSecond: latencies.length / seconds,
    p50Ms: percentile(sorted, 50),
    p95Ms: percentile(sorted, 95),
    p99Ms: percentile(sorted, 99),
    slowestMs: sorted[sorted.length - 1] ?? 0,
    answerBytes: state.answerBytes,
  };
}

/** One connection until the time is over. */
function drive(
  { port, protocol, requests, tolerant = false, pauseMs }: LoadOrder,
  state: { next: number; until: number; answerBytes: number; failed: number },
  latencies: number[],
): Promise<void> {
  const lengthOf = protocol === "http" ? httpLength : bulkLength;
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ port, host: LOOPBACK, noDelay: true });
    let head: Buffer = Buffer.alloc(0);
    let received = 0;
    let length: number | null = null;
    let isFailure = false;
    let sentAt = 0;
    const send = (): void => {
      if (performance.now() >= state.until) {
        socket.destroy();
        resolve();
        return;
      }
      const request = requests[state.next++ % requests.length];
      sentAt = performance.now();
      socket.write(request);
    };
    socket.once("connect", send);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the server closed a connection")));
    socket.on("data", (chunk) => {
      received += chunk.length;
      if (length === null) {
        // What comes after the head is counted alone: a large answer comes in many pieces.
        head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
        isFailure = protocol === "http" && tolerant && !isOk(head);
        try {
          length = lengthOf(head, isFailure);
        } catch (error) {
          socket.destroy();
          reject(error);
          return;
        }
      }
      if (length === null || received < length) return;
      if (isFailure) state.failed++;
      else latencies.push(performance.now() - sentAt);
      state.answerBytes = length;
      head = Buffer.alloc(0);
      received = 0;
      length = null;
      if (pauseMs === undefined) send();
      else setTimeout(send, pauseMs);
    });
  });
}

const OK = Buffer.from("HTTP/1.1 200");
/** Undecided answers, of which too little has come, are not ok; they are asked about again. */
const isOk = (bytes: Buffer): boolean =>
  bytes.length >= OK.length && bytes.compare(OK, 0, OK.length, 0, OK.length) === 0;

/** Bytes of the answer, or null while its head is not whole. @throws Error for an answer that is not 200 */
function httpLength(bytes: Buffer, isFailure: boolean): number | null {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const head = bytes.toString("latin1", 0, end);
  if (!isFailure && !head.startsWith("HTTP/1.1 200")) {
    throw new Error(`the server answered ${bytes.toString("utf8", 0, Math.min(bytes.length, 600))}`);
  }
  const length = /\r\ncontent-length: (\d+)/i.exec(head);
  if (length === null) throw new Error("an answer has no content-length");
  return end + 4 + Number(length[1]);
}

function bulkLength(bytes: Buffer): number | null {
  const end = bytes.indexOf("\r\n");
  if (end < 0) return null;
  if (bytes[0] !== 0x24 || bytes[1] === 0x2d) throw new Error(`Valkey answered ${bytes.toString("latin1", 0, end)}`);
  return end + 2 + Number(bytes.toString("latin1", 1, end)) + 2;
}

/** A request with a JSON body, as bytes. */
export function httpPost(path: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Buffer {
  const json = JSON.stringify(body);
  const head = [
    `POST ${path} HTTP/1.1`,
    `host: ${LOOPBACK}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(json)}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.from(`${head.join("\r\n")}\r\n\r\n${json}`);
}
