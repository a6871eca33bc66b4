/** A mapping over a stream in memory, with toy handlers. */
import { type Handler, inProcessHost } from "./function-host.ts";
import { KinesisMapping, type MappingOptions } from "./kinesis-mapping.ts";
import { InMemoryStream } from "./kinesis-stream.ts";
import { seededRandom } from "./random.ts";
import { VirtualClock } from "./virtual-clock.ts";

export const START = 1_795_248_000_000;

/** A stream, a mapping and what the handler was given: lists of the records' texts, one a call. */
export function setup(
  options: Partial<Omit<MappingOptions, "stream" | "clock" | "host">> & {
    shards?: number;
    handler?: (texts: string[], event: any, context: any) => unknown;
    seed?: number;
    before?: (put: (text: string, key?: string) => void) => void;
  } = {},
) {
  const { shards = 1, handler = () => undefined, seed = 1, before, ...rest } = options;
  const clock = new VirtualClock(START);
  const stream = new InMemoryStream({ name: "transactions", shards, clock });
  const calls: string[][] = [];
  const put = (text: string, key = "k") => stream.put({ partitionKey: key, data: Buffer.from(text) });
  before?.(put);
  const run: Handler = async (event, context) => {
    const texts = event.Records.map((record: any) => Buffer.from(record.kinesis.data, "base64").toString());
    calls.push(texts);
    return handler(texts, event, context);
  };
  const mapping = new KinesisMapping({ stream, clock, host: inProcessHost(run), random: seededRandom(seed), ...rest });
  return { clock, stream, calls, put, mapping, putAll: (...texts: string[]) => texts.map((text) => put(text)) };
}

export const failing = (bad: string) => (texts: string[]) => {
  if (texts.includes(bad)) throw new Error("poison");
};
export const sequenceOf = (event: any, text: string): string =>
  event.Records.find((record: any) => Buffer.from(record.kinesis.data, "base64").toString() === text)?.kinesis
    .sequenceNumber;
