/**
 * One round trip to one primary: all commands in one buffer, one timer, one promise. iovalkey keeps the connection, its
 * reconnects and its parser; its own pipeline makes five promises and a timer for each command and encodes each argument
 * apart, which costs more than the rest of a read does.
 */
import type { Redis } from "iovalkey";

export type Argument = string | Buffer | number;

/** Arguments in the protocol's form, encoded once for commands that repeat them. */
export interface EncodedArguments {
  readonly count: number;
  readonly bytes: Buffer;
}

export interface TripCommand {
  readonly name: string;
  readonly args: readonly Argument[];
  /** Further arguments, after `args`. */
  readonly tail?: EncodedArguments;
}

/**
 * Sends commands at once. Answers come in order: Buffers, numbers, null, arrays of them, or an Error for what the server
 * refused or the connection cut off.
 * @throws Error when the trip takes longer than the connection's `commandTimeout`
 */
export function sendTrip(node: Redis, commands: readonly TripCommand[]): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const answers: unknown[] = new Array(commands.length);
    const bytes = encodeCommands(commands);
    let unsent = commands.length;
    let unanswered = commands.length;
    let timer: NodeJS.Timeout | undefined;
    const settle = (index: number, answer: unknown): void => {
      answers[index] = answer;
      if (--unanswered > 0) return;
      clearTimeout(timer);
      resolve(answers);
    };
    // iovalkey writes each command where it is told to: only the last one of a trip really goes out, with all bytes. It may
    // do so later than now: a connection of a cluster queues what comes before it is ready.
    const stream = {
      isPipeline: true,
      destination: { redis: node },
      write: (): void => {
        if (--unsent === 0) streamOf(node).write(bytes);
      },
    };
    commands.forEach(({ name }, index) => {
      const command: QueuedCommand = {
        name: name.toLowerCase(),
        args: NO_ARGS,
        promise: DONE,
        setTimeout: (ms) => {
          timer ??= setTimeout(() => reject(new Error("Command timed out")), ms);
        },
        toWritable: () => "",
        resolve: (value) => settle(index, value),
        reject: (error) => settle(index, error),
      };
      node.sendCommand(command as never, stream as never);
    });
  });
}

/** What iovalkey asks of a command in its queue. */
interface QueuedCommand {
  readonly name: string;
  /** Shown in its errors: never the real ones, which may be keys. */
  readonly args: readonly never[];
  readonly promise: Promise<void>;
  setTimeout(ms: number): void;
  toWritable(): string;
  resolve(value: unknown): void;
  reject(error: Error): void;
}
const NO_ARGS: readonly never[] = [];
const DONE = Promise.resolve();

const streamOf = (node: Redis): NodeJS.WritableStream => (node as unknown as { stream: NodeJS.WritableStream }).stream;

/** RESP: an array of bulk strings for each command, one after another. */
export function encodeCommands(commands: readonly TripCommand[]): Buffer {
  let size = 0;
  for (const { name, args, tail } of commands) {
    size += headerSize(1 + args.length + (tail?.count ?? 0)) + bulkSize(name) + (tail?.bytes.length ?? 0);
    for (const arg of args) size += bulkSize(arg);
  }
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const { name, args, tail } of commands) {
    at = writeHeader(bytes, at, 0x2a, 1 + args.length + (tail?.count ?? 0));
    at = writeBulk(bytes, at, name);
    for (const arg of args) at = writeBulk(bytes, at, arg);
    if (tail !== undefined) {
      bytes.set(tail.bytes, at);
      at += tail.bytes.length;
    }
  }
  return bytes;
}

export function encodeArguments(args: readonly Argument[]): EncodedArguments {
  const bytes = Buffer.allocUnsafe(args.reduce<number>((size, arg) => size + bulkSize(arg), 0));
  let at = 0;
  for (const arg of args) at = writeBulk(bytes, at, arg);
  return { count: args.length, bytes };
}

const CRLF = 0x0d0a;

const lengthOf = (arg: Argument): number =>
  typeof arg === "string" ? Buffer.byteLength(arg) : typeof arg === "number" ? String(arg).length : arg.length;

function bulkSize(arg: Argument): number {
  const length = lengthOf(arg);
  return headerSize(length) + length + 2;
}

/** A sign, the number and a line's end. */
function headerSize(value: number): number {
  let size = 4;
  for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) size++;
  return size;
}

function writeHeader(bytes: Buffer, start: number, sign: number, value: number): number {
  const end = start + headerSize(value);
  bytes[start] = sign;
  for (let at = end - 3, rest = value; at > start; at--, rest = Math.floor(rest / 10)) bytes[at] = 0x30 + (rest % 10);
  return bytes.writeUInt16BE(CRLF, end - 2);
}

function writeBulk(bytes: Buffer, start: number, arg: Argument): number {
  const length = lengthOf(arg);
  const at = writeHeader(bytes, start, 0x24, length);
  if (typeof arg === "object") bytes.set(arg, at);
  else if (typeof arg === "number") bytes.write(String(arg), at, "latin1");
  else bytes.write(arg, at, arg.length === length ? "latin1" : "utf8");
  return bytes.writeUInt16BE(CRLF, at + length);
}
