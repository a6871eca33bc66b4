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

const NO_ARGS: readonly never[] = [];
const DONE = Promise.resolve();

/**
 * Sends commands at once. Answers come in order: Buffers, numbers, null, arrays of them, or an Error for what the server
 * refused or the connection cut off.
 * @throws TakeFault
 * @throws Error when no answer comes for as long as the connection's `commandTimeout`: a long trip may take longer in all
 */
export function sendTrip(node: Redis, commands: readonly TripCommand[]): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const trip = new Trip(node, commands, resolve, reject);
    const bytes = encodeCommands(commands);
    let unsent = commands.length;
    // iovalkey writes each command where it is told to: only the last one of a trip really goes out, with all bytes. It may
    // do so later than now: a connection of a cluster queues what comes before it is ready.
    const stream = {
      isPipeline: true,
      destination: { redis: node },
      write: (): void => {
        if (--unsent === 0) writeWithTurn(streamOf(node), bytes);
      },
    };
    for (let i = 0; i < commands.length; i++) node.sendCommand(new QueuedCommand(trip, i) as never, stream as never);
  });
}

class Trip {
  readonly commands: readonly TripCommand[];
  /** When it was sent, or its last answer came, by `performance.now()`. */
  heardMs = 0;
  private readonly node: Redis;
  private readonly answers: unknown[];
  private readonly done: (answers: unknown[]) => void;
  private readonly fail: (error: Error) => void;
  private unanswered: number;
  private watch: Watch | undefined;

  constructor(
    node: Redis,
    commands: readonly TripCommand[],
    done: (answers: unknown[]) => void,
    fail: (error: Error) => void,
  ) {
    this.node = node;
    this.commands = commands;
    this.answers = new Array(commands.length);
    this.done = done;
    this.fail = fail;
    this.unanswered = commands.length;
  }

  settle(index: number, answer: unknown): void {
    const { take } = this.commands[index];
    if (take === undefined || answer instanceof Error) this.answers[index] = answer;
    else {
      this.answers[index] = null;
      try {
        take(answer);
      } catch (error) {
        // Not into the parser's hands, which has other answers to read.
        this.fail(new TakeFault("an answer was not taken", { cause: error }));
      }
    }
    if (--this.unanswered > 0) {
      this.heardMs = performance.now();
      return;
    }
    this.watch?.remove(this);
    this.done(this.answers);
  }

  endAfter(ms: number): void {
    if (this.watch !== undefined) return;
    this.watch = Watch.of(this.node, ms);
    this.heardMs = performance.now();
    this.watch.add(this);
  }

  expire(): void {
    this.fail(new Error("Command timed out"));
  }
}

/** Ends trips that wait too long. One timer for all of a connection: to make and clear one for each costs as much as to encode it. */
class Watch {
  private static readonly all = new WeakMap<Redis, Watch>();
  private readonly ms: number;
  /** Answers come in order, so that the first one is the next to go. */
  private readonly trips: Trip[] = [];
  private timer: NodeJS.Timeout | null = null;

  private constructor(ms: number) {
    this.ms = ms;
  }

  static of(node: Redis, ms: number): Watch {
    let watch = Watch.all.get(node);
    if (watch === undefined) {
      watch = new Watch(ms);
      Watch.all.set(node, watch);
    }
    return watch;
  }

  add(trip: Trip): void {
    this.trips.push(trip);
    if (this.timer === null) this.lookAfter(this.ms);
  }

  remove(trip: Trip): void {
    const at = this.trips.indexOf(trip);
    if (at === 0) this.trips.shift();
    else if (at > 0) this.trips.splice(at, 1);
  }

  private lookAfter(ms: number): void {
    this.timer = setTimeout(() => this.look(), ms);
    // Whoever waits for a trip has its socket to wait for.
    this.timer.unref();
  }

  private look(): void {
    const latestMs = performance.now() - this.ms;
    for (const trip of this.trips.filter(({ heardMs }) => heardMs <= latestMs)) {
      this.remove(trip);
      trip.expire();
    }
    this.timer = null;
    if (this.trips.length > 0) this.lookAfter(Math.min(...this.trips.map(({ heardMs }) => heardMs)) - latestMs);
  }
}

/** What iovalkey asks of a command in its queue. */
class QueuedCommand {
  readonly name: string;
  /** Shown in its errors: never the real ones, which may be keys. */
  readonly args = NO_ARGS;
  readonly promise = DONE;
  private readonly trip: Trip;
  private readonly index: number;

  constructor(trip: Trip, index: number) {
    this.name = trip.commands[index].name.toLowerCase();
    this.trip = trip;
    this.index = index;
  }

  setTimeout(ms: number): void {
    this.trip.endAfter(ms);
  }
  toWritable(): string {
    return "";
  }
  resolve(value: unknown): void {
    this.trip.settle(this.index, value);
  }
  reject(error: Error): void {
    this.trip.settle(this.index, error);
  }
}

const streamOf = (node: Redis): Writable => (node as unknown as { stream: Writable }).stream;

/** What waits for the end of the turn is small; from here on the server should begin while more is being encoded. */
const HELD_BYTES = 16_384;

/**
 * Requests that arrive together ask together: what they write in this turn leaves with one system call, and the server reads
 * it with one. The turn ends when all sockets that had something to say have been heard, which is when immediates run.
 */
function writeWithTurn(stream: Writable, bytes: Buffer): void {
  if (stream.writableCorked === 0) {
    if (bytes.length >= HELD_BYTES) {
      stream.write(bytes);
      return;
    }
    stream.cork();
    setImmediate(release, stream);
  }
  stream.write(bytes);
  if (stream.writableLength >= HELD_BYTES) release(stream);
}

function release(stream: Writable): void {
  if (stream.writableCorked > 0) stream.uncork();
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
