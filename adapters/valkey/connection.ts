/**
 * Connections to Valkey, standalone or cluster, behind one call: a list of commands, each for one bucket, pipelined to the
 * primary that owns it. Also knows each primary's run id, which applies carry so that a failover is noticed.
 */
import { Cluster, Redis } from "iovalkey";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import { STORE_STATES } from "../online-store/store-states.ts";
import { runBytes } from "./layout.ts";
import { sendTrip, TakeFault, type TripCommand } from "./trip.ts";

export interface ValkeyOptions {
  readonly host: string;
  readonly port: number;
  /** @default false */
  readonly tls?: boolean;
  /** @default false */
  readonly cluster?: boolean;
  /** @default none */
  readonly user?: string;
  /** Called again every ten minutes, since IAM tokens open connections for 15 only. @default none */
  readonly password?: () => Promise<string>;
  /** How long the server may keep silent while it owes an answer, in ms. @default 2000 */
  readonly timeoutMs?: number;
  /** How long a call waits for a broken connection to come back before it fails, in ms. @default 1500 */
  readonly waitMs?: number;
}

const PASSWORD_AGE_MS = 600_000;

/**
 * A peer that owes an answer and sends nothing for as long is gone: one that vanished without a word (its machine or the path
 * to it died) would otherwise be waited for until the kernel gives up, a quarter of an hour, while every call on its connection times out.
 * Far more than a call may take, so that a server that stalls for a moment is not asked for a new connection by every host.
 */
const silenceMs = (timeoutMs: number): number => Math.max(5_000, 2 * timeoutMs);

export interface Command extends TripCommand {
  /** A key of the bucket that the command is for; decides the primary. */
  readonly key: string;
}

/** Replies are Buffers, numbers, null or arrays of them; a command's own error is an Error in its place. */
export type Answer = unknown;

export class ValkeyConnection {
  private readonly options: ValkeyOptions;
  private client: Redis | Cluster | null = null;
  private opening: Promise<Redis | Cluster> | null = null;
  private learning: Promise<void> | null = null;
  private passwordAtMs = Date.now();
  private readonly runIds = new Map<Redis, Promise<string>>();
  private readonly knownRuns = new Map<Redis, Buffer>();

  constructor(options: ValkeyOptions) {
    this.options = options;
  }

  get isCluster(): boolean {
    return this.options.cluster === true;
  }

  /** Sends commands in one round trip for each primary. @throws InfrastructureError `store_unavailable` */
  run(commands: readonly Command[]): Promise<Answer[]> {
    const { client } = this;
    // As good as always one server that is there: then nothing is waited for but its answers.
    const isReady = client instanceof Redis && client.status === "ready" && !this.isPasswordOld;
    return isReady && commands.length > 0 ? trip(client, commands) : this.runWhenOpen(commands);
  }

  private async runWhenOpen(commands: readonly Command[]): Promise<Answer[]> {
    if (commands.length === 0) return [];
    const client = await this.open();
    if (client instanceof Redis) return trip(client, commands);
    const groups = new Map<Redis, number[]>();
    commands.forEach(({ key }, index) => {
      const node = this.nodeOf(client, key);
      const group = groups.get(node);
      if (group) group.push(index);
      else groups.set(node, [index]);
    });
    const answers: Answer[] = new Array(commands.length);
    await Promise.all(
      [...groups].map(async ([node, indices]) => {
        const part = await trip(
          node,
          indices.map((index) => commands[index]),
        ).catch(async (error: unknown) => {
          await this.learnTopology(client);
          throw error;
        });
        part.forEach((answer, i) => {
          answers[indices[i]] = answer;
        });
      }),
    );
    return answers;
  }

  /** Like `run`, for commands that must not fail. @throws InfrastructureError `store_error`, `store_full` */
  async demand(commands: readonly Command[]): Promise<Answer[]> {
    const answers = await this.run(commands);
    for (const answer of answers) if (answer instanceof Error) throw commandError(answer);
    return answers;
  }

  /** Run id (40 hex digits) of the primary that owns a key; asked for once a connection. */
  async runId(key: string): Promise<string> {
    const node = this.nodeOf(await this.open(), key);
    let known = this.runIds.get(node);
    if (!known) {
      known = node.info("server").then((info) => /run_id:([0-9a-f]{40})/.exec(info)?.[1] ?? "0".repeat(40));
      const forget = (): void => {
        this.runIds.delete(node);
        this.knownRuns.delete(node);
      };
      const asked = known;
      asked.then((id) => this.runIds.get(node) === asked && this.knownRuns.set(node, runBytes(id)), forget);
      this.runIds.set(node, known);
      node.once("close", forget);
    }
    return known.catch((cause: unknown) => {
      throw unavailable(cause);
    });
  }

  /** The first bytes of `runId`, without waiting, once it has been asked for; null before. */
  knownRun(key: string): Buffer | null {
    return this.client === null ? null : (this.knownRuns.get(this.nodeOf(this.client, key)) ?? null);
  }

  /** Address of the primary that owns a key, as far as it is known; the empty text before. */
  primaryOf(key: string): string {
    if (!(this.client instanceof Cluster)) return "";
    return (this.client as unknown as { slots: string[][] }).slots[slotOf(key)]?.[0] ?? "";
  }

  /** One connection for each primary, for commands that concern a whole node: SCAN, FUNCTION LOAD. */
  async primaries(): Promise<Redis[]> {
    const client = await this.open();
    return client instanceof Redis ? [client] : (client.nodes("master") as Redis[]);
  }

  async close(): Promise<void> {
    const client = this.client;
    this.client = null;
    this.opening = null;
    client?.disconnect();
  }

  private nodeOf(client: Redis | Cluster, key: string): Redis {
    if (client instanceof Redis) return client;
    const slot = slotOf(key);
    const [address] = (client as unknown as { slots: string[][] }).slots[slot] ?? [];
    const node = (client.nodes("master") as Redis[]).find(
      ({ options }) => `${options.host}:${options.port}` === address,
    );
    if (!node) {
      void this.learnTopology(client);
      throw unavailable(new Error(`no primary for slot ${slot}`));
    }
    return node;
  }

  /**
   * Asks the cluster anew who owns what. Commands go straight to a primary, so the client's own answer to MOVED never comes
   * into play. What was refused is not sent again here: an apply must carry the run id of the primary that it reaches.
   */
  private async learnTopology(client: Redis | Cluster): Promise<void> {
    if (client instanceof Redis) return;
    this.learning ??= new Promise<void>((resolve) => client.refreshSlotsCache(() => resolve())).finally(() => {
      this.learning = null;
    });
    await this.learning;
  }

  private async open(): Promise<Redis | Cluster> {
    if (this.client && this.isPasswordOld) await this.renewPassword(this.client, this.options.password!);
    if (this.client) return this.client.status === "ready" ? this.client : this.ready(this.client);
    this.opening ??= this.connect().catch((cause: unknown) => {
      this.opening = null;
      throw unavailable(cause);
    });
    return this.opening;
  }

  private get isPasswordOld(): boolean {
    return this.options.password !== undefined && Date.now() - this.passwordAtMs > PASSWORD_AGE_MS;
  }

  /** Gives reconnections a password that still opens the door; open connections keep theirs. */
  private async renewPassword(client: Redis | Cluster, password: () => Promise<string>): Promise<void> {
    this.passwordAtMs = Date.now();
    const fresh = await password();
    if (client instanceof Redis) client.options.password = fresh;
    else {
      const { redisOptions } = client.options;
      if (redisOptions) redisOptions.password = fresh;
      for (const node of client.nodes()) node.options.password = fresh;
    }
  }

  /** Waits for a connection that is coming back; reconnecting itself goes on in the background. */
  private async ready(client: Redis | Cluster): Promise<Redis | Cluster> {
    const { waitMs = 1500 } = this.options;
    if (waitMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs);
        client.once("ready", () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    if (client.status !== "ready") throw unavailable(new Error(`the connection is ${client.status}`));
    return client;
  }

  private async connect(): Promise<Redis | Cluster> {
    const { host, port, tls, cluster, user, password, timeoutMs = 2000 } = this.options;
    const common = {
      ...(tls ? { tls: {} } : {}),
      ...(user ? { username: user } : {}),
      ...(password ? { password: await password() } : {}),
      connectTimeout: timeoutMs,
      commandTimeout: timeoutMs,
      socketTimeout: silenceMs(timeoutMs),
      // A command that was cut off may have been applied. Sending it again is the caller's decision, under a fresh run id.
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      retryStrategy: (attempt: number) => Math.min(50 * attempt, 250),
      lazyConnect: true,
    };
    const client: Redis | Cluster = cluster
      ? new Cluster([{ host, port }], {
          redisOptions: common,
          lazyConnect: true,
          enableOfflineQueue: false,
          // Whoever sends nothing for a while learns of a failover too.
          slotsRefreshInterval: 10_000,
          dnsLookup: (address, callback) => callback(null, address),
        })
      : new Redis({ ...common, host, port });
    // Reconnecting goes on in the background; a call that finds no connection fails at once and says so.
    client.on("error", () => {});
    try {
      await client.connect();
    } catch (cause) {
      client.disconnect();
      throw cause;
    }
    this.client = client;
    return client;
  }
}

export const unavailable = (cause: unknown): InfrastructureError =>
  new InfrastructureError(STORE_STATES.unreachable.code, "the online store does not answer", {
    cause,
    repair: STORE_STATES.unreachable.repair,
  });

async function trip(node: Redis, commands: readonly Command[]): Promise<Answer[]> {
  const answers = await sendTrip(node, commands).catch((cause: unknown) => {
    throw cause instanceof TakeFault ? cause.cause : unavailable(cause);
  });
  for (const answer of answers) if (answer instanceof Error && isConnectionError(answer)) throw unavailable(answer);
  return answers;
}

const isConnectionError = (error: Error): boolean =>
  /Connection is closed|connection close|max retries per request|Stream isn't writeable|Command timed out|ECONN|EPIPE|ETIMEDOUT|LOADING |MASTERDOWN|CLUSTERDOWN|READONLY |MOVED |ASK |TRYAGAIN /.test(
    `${error.name} ${error.message}`,
  );

export function commandError(error: Error): FreshetError {
  if (/^OOM /.test(error.message)) {
    return new InfrastructureError("store_full", "the online store has no memory left: applies are blocked", {
      cause: error,
      repair: "add memory or shards; reads go on, and applies resume by themselves",
    });
  }
  // A bug that some record brought to light, told apart from a store that cannot serve anybody: a refusal by the server
  // (OOM, MISCONF, NOREPLICAS, NOPERM …) keeps its own first word even when it hits a command within a function.
  if (/^(ERR user_(function|script):|WRONGTYPE )/.test(error.message)) {
    return new FreshetError("store_function_failed", `the store's function failed: ${error.message.slice(0, 200)}`, {
      cause: error,
    });
  }
  return new InfrastructureError("store_error", `the online store refused a command: ${error.message.slice(0, 200)}`, {
    cause: error,
  });
}

/** CRC-16/XMODEM of the hash tag, modulo 16384, as the cluster specification has it. */
export function slotOf(key: string): number {
  const open = key.indexOf("{");
  const close = key.indexOf("}", open + 1);
  const tag = open >= 0 && close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc % 16384;
}
