/**
 * A proxy before a real Valkey that breaks connections where a network would: before a request, between a request and its
 * answer (the caller cannot know whether it was done), in the middle of a pipeline, or for good.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { LOOPBACK } from "../ports.ts";

export interface TcpFaultProxy {
  readonly host: string;
  readonly port: number;
  /** Breaks every connection now. New ones are served. */
  cut(): void;
  /** While refusing, every connection is broken and none is served. */
  refuse(refusing: boolean): void;
  /** While mute, requests reach the server and no answer comes back; what was held is passed on afterwards. */
  mute(muted: boolean): void;
  /** Connections that are open now stay so, and nothing comes through them any more, either way. New ones are served. */
  strand(): void;
  /** Passes that many more bytes of requests on, then breaks the connection in the middle of what it carries. */
  cutAfterRequestBytes(bytes: number): void;
  /** Passes that many more bytes of answers on, then breaks the connection: later requests were done, unheard. */
  cutAfterAnswerBytes(bytes: number): void;
  stop(): Promise<void>;
}

/** @param port to listen on. @default any that is free */
export async function startTcpFaultProxy(target: { host: string; port: number }, port = 0): Promise<TcpFaultProxy> {
  const pairs = new Set<{ near: Socket; far: Socket; held: Buffer[]; isDead: boolean }>();
  let refusing = false;
  let muted = false;
  let requestBytesLeft = Number.POSITIVE_INFINITY;
  let answerBytesLeft = Number.POSITIVE_INFINITY;

  const server = createServer((near) => {
    if (refusing) return void near.destroy();
    const far = connect(target.port, target.host);
    const pair = { near, far, held: [] as Buffer[], isDead: false };
    pairs.add(pair);
    near.setNoDelay(true);
    far.setNoDelay(true);
    const end = (): void => {
      near.destroy();
      // What the server was given it may go on with: only the caller's side is reset.
      far.end();
      pairs.delete(pair);
    };
    near.on("data", (chunk: Buffer) => {
      if (pair.isDead) return;
      far.write(chunk.subarray(0, requestBytesLeft));
      requestBytesLeft -= chunk.length;
      if (requestBytesLeft >= 0) return;
      requestBytesLeft = Number.POSITIVE_INFINITY;
      end();
    });
    far.on("data", (chunk: Buffer) => {
      if (pair.isDead) return;
      if (muted) return void pair.held.push(chunk);
      near.write(chunk.subarray(0, answerBytesLeft));
      answerBytesLeft -= chunk.length;
      if (answerBytesLeft >= 0) return;
      answerBytesLeft = Number.POSITIVE_INFINITY;
      end();
    });
    for (const socket of [near, far]) {
      socket.on("error", end);
      socket.on("close", end);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, LOOPBACK, resolve);
  });

  const cut = (): void => {
    for (const { near, far } of pairs) {
      near.destroy();
      far.end();
    }
    pairs.clear();
  };
  return {
    host: LOOPBACK,
    port: (server.address() as AddressInfo).port,
    cut,
    refuse(value) {
      refusing = value;
      if (value) cut();
    },
    mute(value) {
      muted = value;
      if (value) return;
      for (const pair of pairs) for (const chunk of pair.held.splice(0)) pair.near.write(chunk);
    },
    strand() {
      for (const pair of pairs) pair.isDead = true;
    },
    cutAfterRequestBytes(bytes) {
      requestBytesLeft = bytes;
    },
    cutAfterAnswerBytes(bytes) {
      answerBytesLeft = bytes;
    },
    async stop() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
