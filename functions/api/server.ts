/** The API as a plain Node server: `freshet serve`, and the entry of a container. */
import { createServer, type Server } from "node:http";
import { type AddressInfo, Server as SocketServer } from "node:net";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { getRequestListener } from "@hono/node-server";
import { within } from "../../adapters/online-store/within.ts";
import { FreshetError } from "../../core/errors.ts";
import { plan } from "../../features/plan.ts";
import { LoadGate } from "./admission/load-gate.ts";
import { type ApiDependencies, createApp } from "./app.ts";
import { collectAlone } from "./collector.ts";
import { createDependencies } from "./dependencies.ts";
import { createDirectListener } from "./direct.ts";
import { createHistoricalPorts } from "./historical/historical-ports.ts";
import { createJobQueue } from "./historical/historical-queue.ts";
import { logToStderr } from "./observability/server-log.ts";
import { createPushedPorts } from "./registered/pushed-ports.ts";
import type { Route } from "./router.ts";
import { createScoringPorts } from "./scoring/scoring-ports.ts";

export interface ServerOptions {
  readonly port: number;
  /** @default 127.0.0.1 */
  readonly host?: string;
  /** Ports of the API; made from the environment when left out. */
  readonly dependencies?: ApiDependencies;
  /** How long a client may take to send a whole request. @default 30 s */
  readonly requestTimeoutMs?: number;
  /** How long it goes on as ever once it is told to end, while `/ready` says so. @default 0 */
  readonly lingerMs?: number;
  /** How long connections at rest then stay open for one more call, while no new ones are taken. @default lingerMs */
  readonly restMs?: number;
  /** How long requests under way may take once it is told to end; supervisors kill after about 10 s. @default 4 s */
  readonly drainMs?: number;
  /** How long all that the API uses may then take to end, as its log, which has less by itself. @default 4.5 s */
  readonly endMs?: number;
}
export interface RunningServer {
  readonly url: string;
  /**
   * Says that it drains; then takes no new connections and ends each of those that are open with an answer; then ends. A historical job is cut
   * off and told as failed.
   */
  close(): Promise<void>;
}

/** A client that trickles its request is given up after this; it costs a socket until then. */
const REQUEST_MS = 30_000;
/** For load balancers to see that it drains, before it refuses connections. */
const LINGER_MS = 500;
/** Callers that pause between two calls find their connection open once more, and are told there. */
const REST_MS = 2_000;
const DRAIN_MS = 4_000;
const END_MS = 4_500;
/** What stands in for the store is used this often, so that its connection stands and its code is warm in the moment of an outage. */
const WARM_EACH_MS = 5_000;
/** Longer than a load balancer's idle timeout (60 s), so that it never sends into a connection that is closing. */
const KEEP_ALIVE_MS = 65_000;

/** @throws FreshetError `port_taken`, `environment_missing` */
export async function listen(options: ServerOptions): Promise<RunningServer> {
  collectAlone();
  const host = options.host ?? "127.0.0.1";
  const dependencies =
    options.dependencies ??
    createDependencies({
      serve: { ingest: true, read: true },
      scoring: createScoringPorts({ plan, timers: true, log: logToStderr }),
      historical: createHistoricalPorts({ queueOf: createJobQueue, log: logToStderr }),
      pushed: createPushedPorts(),
      log: logToStderr,
    });
  // Models and connections are warm before the first request can come.
  const { scoring, reader, fallback } = dependencies;
  await Promise.all([scoring?.serving.refresh(), reader?.state(), fallback?.snapshots?.warm()]);
  const state = { gate: new LoadGate(), isDraining: false };
  /** From when no connection is taken any more. */
  let isParting = false;
  /** Connections since the start. */
  let taken = 0;
  const routes: Route[] = [];
  const app = createApp(dependencies, { compresses: true, state, onRoute: (route) => routes.push(route) });
  /** Whoever keeps the connection open would send its next call to a host that is gone. */
  const parting = (answer: Response): Response => {
    if (isParting) answer.headers.set("connection", "close");
    return answer;
  };
  const byHono = getRequestListener(
    (request, environment) => {
      const answer = app.fetch(request, environment);
      return answer instanceof Promise ? answer.then(parting) : parting(answer);
    },
    { hostname: host },
  );
  const requestTimeout = options.requestTimeoutMs ?? REQUEST_MS;
  const server = createServer(
    {
      keepAliveTimeout: KEEP_ALIVE_MS,
      requestTimeout,
      headersTimeout: requestTimeout,
      // Node looks for late ones every 30 s by itself.
      connectionsCheckingInterval: requestTimeout / 10,
    },
    createDirectListener(routes, byHono, () => isParting),
  );
  server.on("connection", () => taken++);
  const closePorts = () => endWithin(options.endMs ?? END_MS, dependencies);
  await new Promise<void>((resolve, reject) => {
    server.listen(options.port, host, resolve);
    server.once("error", (cause: NodeJS.ErrnoException) =>
      reject(
        cause.code === "EADDRINUSE"
          ? new FreshetError("port_taken", `port ${options.port} is in use`, {
              field: "port",
              repair: "use another with --port",
              cause,
            })
          : cause,
      ),
    );
  }).catch(async (error) => {
    // Connections that are open already would keep the process that has nothing to serve.
    await closePorts();
    throw error;
  });
  state.gate.start();
  const warming = setInterval(() => void fallback?.snapshots?.warm(), WARM_EACH_MS).unref();
  dependencies.writes?.start();
  const { port } = server.address() as AddressInfo;
  const endAfter = async (lingerMs: number) => {
    // Not even one turn where there is nothing to wait for: a connection would be taken in it.
    if (lingerMs > 0) {
      await sleep(lingerMs);
      // The loop takes a few connections a turn, and those that wait when the door is shut are reset.
      const untilMs = performance.now() + lingerMs;
      for (let before = -1; taken !== before && performance.now() < untilMs; await setImmediate()) before = taken;
    }
    isParting = true;
    await drain(server, options.restMs ?? lingerMs, options.drainMs ?? DRAIN_MS);
    clearInterval(warming);
    state.gate.stop();
    // The log last: requests under way have added to it.
    await closePorts();
  };
  let closing: Promise<void> | undefined;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${port}`,
    close() {
      state.isDraining = true;
      closing ??= endAfter(options.lingerMs ?? 0);
      return closing;
    },
  };
}

/** Ends what the API uses. What hangs over it is left, and told. */
async function endWithin(ms: number, { writes, reader, scoring, historical, pushed, log }: ApiDependencies) {
  const left = new Set<string>();
  const ending = (name: string, end: Promise<void> | undefined) => {
    left.add(name);
    return Promise.resolve(end).finally(() => left.delete(name));
  };
  const all = Promise.all([
    ending("audit records", writes?.stop()),
    ending("reads", reader?.close()),
    ending("scores", scoring?.close()),
    ending("historical jobs", historical?.close()),
    ending("pushes", pushed?.close()),
  ]);
  await within(ms, all).catch((error) => log("not all of it ended", { left: [...left] }, error));
}

/** Serves until SIGTERM or SIGINT, then drains and returns. */
export async function startServer(options: ServerOptions): Promise<void> {
  const server = await listen({ lingerMs: LINGER_MS, restMs: REST_MS, ...options });
  process.stdout.write(`serving on ${server.url} (docs: ${server.url}/docs)\n`);
  await new Promise<void>((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
  await server.close();
  // Clients of the AWS SDK keep sockets open for reuse; nothing is under way on them any more.
  process.exit(0);
}

/**
 * Callers are told to reconnect only when there is nobody any more to connect to: told before, they would all come back here, and whoever is
 * just connecting when the door is shut is reset instead of refused.
 * @param restMs how long connections at rest are kept for a call that may be on its way
 */
function drain(server: Server, restMs: number, drainMs: number): Promise<void> {
  return new Promise((resolve) => {
    const force = setTimeout(() => server.closeAllConnections(), drainMs);
    let rest: NodeJS.Timeout | undefined;
    const done = () => {
      clearTimeout(rest);
      clearTimeout(force);
      resolve();
    };
    if (restMs === 0) {
      server.close(done);
      return;
    }
    // Closes the door alone; that of HTTP ends resting connections with it.
    SocketServer.prototype.close.call(server, done);
    rest = setTimeout(() => server.close(), restMs);
  });
}
