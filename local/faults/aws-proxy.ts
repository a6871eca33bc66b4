/**
 * A proxy before a real S3 and DynamoDB that makes the faults they never make on demand: errors, dropped connections, lost
 * answers, silence, half-done batches. What it does not disturb goes through byte for byte.
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { LOOPBACK } from "../ports.ts";

/** One request, as the test sees it. */
export interface Exchange {
  /** The API operation, as `PutItem` or `PutObject`. */
  readonly operation: string;
  /** 0 for the first request with this operation. */
  readonly index: number;
}

export type Fault =
  /** Answers an error without asking the service. */
  | { readonly kind: "error"; readonly status: number; readonly code: string }
  /** Ends the connection without asking the service. */
  | { readonly kind: "refuse" }
  /** Lets the service do it, then ends the connection: the caller cannot know. */
  | { readonly kind: "lose-answer" }
  /** Holds the request for ever. */
  | { readonly kind: "hang" }
  /** Holds the request, then lets it through. */
  | { readonly kind: "delay"; readonly ms: number }
  /** Of a BatchWriteItem on one table, lets `written` items through and hands the rest back. */
  | { readonly kind: "unprocessed"; readonly written: number };

export interface FaultProxy {
  readonly url: string;
  /** Every request so far, in order. */
  readonly exchanges: readonly Exchange[];
  /** Replaces the faults; null lets everything through. */
  use(decide: ((exchange: Exchange) => Fault | null) | null): void;
  stop(): Promise<void>;
}

export async function startAwsFaultProxy(targetUrl: string): Promise<FaultProxy> {
  const target = new URL(targetUrl);
  const exchanges: Exchange[] = [];
  const counts = new Map<string, number>();
  let decide: ((exchange: Exchange) => Fault | null) | null = null;

  const forward = (incoming: IncomingMessage, body: Buffer): Promise<{ status: number; headers: any; body: Buffer }> =>
    new Promise((resolve, reject) => {
      const headers = { ...incoming.headers, "content-length": String(body.length) };
      delete (headers as Record<string, unknown>)["transfer-encoding"];
      const outgoing = request(
        {
          host: target.hostname,
          port: target.port,
          method: incoming.method,
          path: incoming.url,
          headers,
          agent: false,
        },
        (answer) => {
          collect(answer).then(
            (bytes) => resolve({ status: answer.statusCode!, headers: answer.headers, body: bytes }),
            reject,
          );
        },
      );
      outgoing.on("error", reject);
      outgoing.end(body);
    });

  async function handle(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const operation = operationOf(incoming);
    const exchange = { operation, index: counts.get(operation) ?? 0 };
    counts.set(operation, exchange.index + 1);
    exchanges.push(exchange);
    const body = await collect(incoming);
    const fault = decide?.(exchange) ?? null;
    if (fault?.kind === "hang") return;
    if (fault?.kind === "refuse") return void incoming.socket.destroy();
    if (fault?.kind === "error") return sendError(answer, operation, fault.status, fault.code);
    if (fault?.kind === "unprocessed") return sendPart(incoming, answer, body, fault.written);
    if (fault?.kind === "delay") await new Promise((resolve) => setTimeout(resolve, fault.ms));
    const result = await forward(incoming, body);
    if (fault?.kind === "lose-answer") return void incoming.socket.destroy();
    answer.writeHead(result.status, result.headers).end(result.body);
  }

  async function sendPart(incoming: IncomingMessage, answer: ServerResponse, body: Buffer, written: number) {
    const call = JSON.parse(body.toString());
    const [[table, requests]] = Object.entries<unknown[]>(call.RequestItems) as [[string, unknown[]]];
    if (written > 0) {
      const part = { ...call, RequestItems: { [table]: requests.slice(0, written) } };
      await forward(incoming, Buffer.from(JSON.stringify(part)));
    }
    answer
      .writeHead(200, { "content-type": "application/x-amz-json-1.0" })
      .end(JSON.stringify({ UnprocessedItems: { [table]: requests.slice(written) } }));
  }

  const server = createServer((incoming, answer) => {
    handle(incoming, answer).catch(() => answer.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
  return {
    url: `http://${LOOPBACK}:${(server.address() as AddressInfo).port}`,
    exchanges,
    use(next) {
      decide = next;
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** DynamoDB and Kinesis name the operation in a header; of S3 the method tells, for the few calls we make. */
function operationOf(incoming: IncomingMessage): string {
  const header = incoming.headers["x-amz-target"];
  if (typeof header === "string") return header.slice(header.indexOf(".") + 1);
  const path = (incoming.url ?? "").split("?")[0]!;
  const what = path.split("/").filter(Boolean).length > 1 ? "Object" : "Bucket";
  return `${(incoming.method ?? "GET").charAt(0)}${(incoming.method ?? "GET").slice(1).toLowerCase()}${what}`;
}

async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function sendError(answer: ServerResponse, operation: string, status: number, code: string): void {
  if (operation.endsWith("Object") || operation.endsWith("Bucket")) {
    answer.writeHead(status, { "content-type": "application/xml" });
    answer.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>injected</Message></Error>`);
    return;
  }
  answer.writeHead(status, { "content-type": "application/x-amz-json-1.0" });
  answer.end(JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${code}`, message: "injected" }));
}
