import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { FreshetError } from "../core/errors.ts";

export const LOOPBACK = "127.0.0.1";

/** Below the ephemeral ranges of Linux (32768) and macOS (49152), so that no outgoing connection sits on a chosen port. */
const FIRST_PORT = 20_000;
const PORTS = 12_000;

/** Whether nobody listens on the port of the loopback interface. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const server = createServer();
    server.once("error", () => settle(false));
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => server.close(() => settle(true)));
  });
}

const PORTS_OF_A_PROCESS = 64;
let asked = 0;

/**
 * A free port for what lives as long as a test: from a part of the range that is as good as this process's own. One that the system
 * gives and takes back is anybody's until its server listens there, and again while that is restarted.
 */
export async function anyFreePort(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + ((process.pid * PORTS_OF_A_PROCESS + asked++) % PORTS);
    if (await isPortFree(port)) return port;
  }
}

/**
 * The port of a service of one home. The recorded one if it is free; else the first free one from a start that depends on
 * home and service, so that two checkouts settle on different ports, and each on the same ones every time.
 * @param wanted a port for which no other will do
 * @throws FreshetError `port_taken`
 */
export async function choosePort(
  home: string,
  service: string,
  options: { wanted?: number; recorded?: number; taken?: ReadonlySet<number> } = {},
): Promise<number> {
  const { wanted, recorded, taken = new Set() } = options;
  if (wanted !== undefined) {
    if (!taken.has(wanted) && (await isPortFree(wanted))) return wanted;
    throw new FreshetError("port_taken", `port ${wanted} for ${service} is in use by another process`, {
      field: `${service} port`,
      repair: `end that process, or give another port with --${service}-port; \`make clean\` forgets the recorded ports`,
    });
  }
  if (recorded !== undefined && !taken.has(recorded) && (await isPortFree(recorded))) return recorded;
  const start = createHash("sha256").update(home).update("\0").update(service).digest().readUInt32BE(0) % PORTS;
  for (let step = 0; step < PORTS; step++) {
    const port = FIRST_PORT + ((start + step) % PORTS);
    if (!taken.has(port) && (await isPortFree(port))) return port;
  }
  throw new FreshetError("port_taken", `no port from ${FIRST_PORT} to ${FIRST_PORT + PORTS - 1} is free`, {
    repair: "end some of the processes that listen on the loopback interface",
  });
}
