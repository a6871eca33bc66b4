import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { homeFolder, valkeyBinary } from "./home.ts";
import { LOOPBACK } from "./ports.ts";
import type { ProcessSpec } from "./processes.ts";

export interface ValkeyOptions {
  readonly port: number;
  /** Data and configuration. */
  readonly dir: string;
  /** @default true */
  readonly appendonly?: boolean;
}

/**
 * Settings as in the `aws` target's parameter group, so that memory and failures behave alike: a full store refuses writes
 * instead of dropping tiles, and an entity's hash stays in the compact encoding (docs/decisions/0022-hashes-stay-compact.md).
 */
function valkeyConfig(options: ValkeyOptions): string {
  return [
    `bind ${LOOPBACK}`,
    `port ${options.port}`,
    `dir "${options.dir}"`,
    "protected-mode yes",
    "daemonize no",
    `appendonly ${options.appendonly === false ? "no" : "yes"}`,
    "appendfsync everysec",
    'save ""',
    "maxmemory-policy noeviction",
    "hash-max-listpack-value 1100",
    "hash-max-listpack-entries 512",
    // A longer pipeline of folds must not look like a hung script.
    "busy-reply-threshold 30000",
    "",
  ].join("\n");
}

/** Writes the configuration and answers how to start the server. */
export function valkeyProcess(options: ValkeyOptions): ProcessSpec {
  const dir = homeFolder(options.dir);
  const config = join(dir, "valkey.conf");
  writeFileSync(config, valkeyConfig({ ...options, dir }));
  return { name: "valkey", command: valkeyBinary(), args: [config], env: { LC_ALL: "C.UTF-8" }, cwd: dir };
}

/**
 * Whether a server answers on the port and has its data in memory.
 * @param pid when given, the answering server must be this process: a stranger on the port is not ours
 */
export function pingValkey(port: number, pid?: number, timeoutMs = 1_000): Promise<boolean> {
  return new Promise((settle) => {
    const socket = connect({ port, host: LOOPBACK });
    let answer = "";
    const done = (ready: boolean): void => {
      socket.destroy();
      settle(ready);
    };
    socket.setTimeout(timeoutMs, () => done(false));
    socket.once("error", () => done(false));
    socket.once("close", () => done(false));
    socket.once("connect", () => socket.write("PING\r\nINFO server\r\n"));
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
      const process = /^process_id:(\d+)\r$/m.exec(answer);
      if (process !== null) done(answer.startsWith("+PONG") && (pid === undefined || Number(process[1]) === pid));
    });
  });
}
