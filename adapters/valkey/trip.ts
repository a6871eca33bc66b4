/**
 * One round trip to one primary: all commands in one buffer, one timer, one promise. iovalkey keeps the connection, its
 * reconnects and its parser; its own pipeline makes five promises and a timer for each command and encodes each argument
 * apart, which costs more than the rest of a read does. Trips that begin in one turn of the event loop go out in one write.
 */
import type { Writable } from "node:stream";
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
  /** Takes the answer as soon as it is here, while the server works at later ones; null then stands in its place. An Error is not handed in. */
  readonly take?: (answer: unknown) => void;
}

/** What a command's `take` threw, as its cause: nothing is wrong with the connection. */
export class TakeFault extends Error {}

/**
 * Sends commands at once. Answers come in order: Buffers, numbers, null, arrays of them, or an Error for what the server
 * refused or the connection cut off.
 * @throws TakeFault
 * @throws Error when no answer comes for as long as the connection's `commandTimeout`: a long trip may take longer in all
 */
export function sendTrip(node: Redis, commands: readonly TripCommand[]): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const answers: unknown[] = new Array(commands.length);
    const bytes = encodeCommands(commands);
    let unsent = commands.length;
    let unanswered = commands.length;
    let timer: NodeJS.Timeout | undefined;
    const settle = (index: number, answer: unknown): void => {
      const { take } = commands[index];
      if (take === undefined || answer instanceof Error) answers[index] = answer;
      else {
        answers[index] = null;
        try {
          take(answer);
        } catch (error) {
          // Not into the parser's hands, which has other answers to read.
          reject(new TakeFault("an answer was not taken", { cause: error }));
        }
      }
      if (--unanswered > 0) {
        timer?.refresh();
        return;
      }
      clearTimeout(timer);
      resolve(answers);
    };
    // iovalkey writes each command where it is told to: only the last one of a trip really goes out, with all bytes. It may
    // do so later than now: a connection of a cluster queues what comes before it is ready.
    const stream = {
      isPipeline: true,
      destination: { redis: node },
      write: (): void => {
        if (--unsent === 0) writeWithTurn(streamOf(node), bytes);
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

const streamOf = (node: Redis): Writable => (node as unknown as { stream: Writable }).stream;

/** What waits for the end of the turn is small; from here on the server should begin while more is being encoded. */
const HELD_BYTES = 16_384;
const held = new WeakSet<Writable>();

/**
 * Requests that arrive together ask together: what they write in this turn leaves with one system call, and the server reads
 * it with one. The turn ends when all sockets that had something to say have been heard, which is when immediates run.
 */
function writeWithTurn(stream: Writable, bytes: Buffer): void {
  if (!held.has(stream)) {
    if (bytes.length >= HELD_BYTES) {
      stream.write(bytes);
      return;
    }
    held.add(stream);
    stream.cork();
    setImmediate(release, stream);
  }
  stream.write(bytes);
  if (stream.writableLength >= HELD_BYTES) release(stream);
}

function release(stream: Writable): void {
  if (held.delete(stream)) stream.uncork();
}

/** RESP: an array of bulk strings for each command, one after another. */
export function encodeCommands(commands: readonly TripCommand[]): Buffer {
  let size = 0;
  for (const { name, args, tail } of commands) {
    size += headerSize(1 + args.length + (tail?.count ?? 0)) + encodedSize(name.length) + (tail?.bytes.length ?? 0);
    for (const arg of args) size += encodedSize(lengthOf(arg));
  }
  const writer = new ArgumentWriter(size);
  for (const { name, args, tail } of commands) {
    writer.header(ARRAY, 1 + args.length + (tail?.count ?? 0));
    writer.text(name, name.length);
    for (const arg of args) writer.argument(arg);
    if (tail !== undefined) {
      writer.bytes.set(tail.bytes, writer.at);
      writer.at += tail.bytes.length;
    }
  }
  return writer.bytes;
}

export function encodeArguments(args: readonly Argument[]): EncodedArguments {
  const writer = new ArgumentWriter(args.reduce<number>((size, arg) => size + encodedSize(lengthOf(arg)), 0));
  for (const arg of args) writer.argument(arg);
  return writer;
}

const ARRAY = 0x2a;
const BULK = 0x24;
const CRLF = 0x0d0a;

const lengthOf = (arg: Argument): number =>
  typeof arg === "string" ? Buffer.byteLength(arg) : typeof arg === "number" ? String(arg).length : arg.length;

/** Bytes that an argument of this length takes. */
export const encodedSize = (length: number): number => headerSize(length) + length + 2;

/** A sign, the number and a line's end. */
function headerSize(value: number): number {
  let size = 4;
  for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) size++;
  return size;
}

/** Writes arguments one after another into a buffer of just their size. */
export class ArgumentWriter implements EncodedArguments {
  readonly bytes: Buffer;
  count = 0;
  at = 0;

  /** @param size the sum of `encodedSize` over all arguments */
  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size);
  }

  header(sign: number, value: number): void {
    const { bytes, at: start } = this;
    const end = start + headerSize(value);
    bytes[start] = sign;
    for (let at = end - 3, rest = value; at > start; at--, rest = Math.floor(rest / 10)) bytes[at] = 0x30 + (rest % 10);
    this.at = bytes.writeUInt16BE(CRLF, end - 2);
  }

  /** Begins an argument whose bytes the caller writes from `at` on. */
  begin(length: number): void {
    this.header(BULK, length);
    this.count++;
  }

  end(at: number): void {
    this.at = this.bytes.writeUInt16BE(CRLF, at);
  }

  text(text: string, length = Buffer.byteLength(text)): void {
    this.begin(length);
    this.end(this.at + this.bytes.write(text, this.at, text.length === length ? "latin1" : "utf8"));
  }

  argument(arg: Argument): void {
    if (typeof arg !== "object") {
      this.text(String(arg));
      return;
    }
    this.begin(arg.length);
    this.bytes.set(arg, this.at);
    this.end(this.at + arg.length);
  }
}
