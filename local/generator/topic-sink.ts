/** Generated events to Kafka, one record an event, and to whichever broker there is. */
import { setTimeout as sleep } from "node:timers/promises";
import { compatibilityPartitioner, ProduceAcks, Producer } from "@platformatic/kafka";
import type { BrokerSettings, KafkaSettings } from "../../adapters/broker/open-broker.ts";
import { connectionOptions } from "../../adapters/kafka/connection.ts";
import { createKinesisClient } from "../../adapters/kinesis/client.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Outgoing } from "./disturb.ts";
import { brokerSink, type Sink } from "./sinks.ts";

const RECORDS_PER_CALL = 500;
const ATTEMPTS = 12;
const LONGEST_PAUSE_MS = 2_000;

/** As much of a producer as is used. */
export type TopicProducer = Pick<Producer, "send" | "close">;

/**
 * @param attempts of a call that is not answered
 * @throws FreshetError from `send`: `broker_unreachable`
 */
export function topicSink(
  settings: KafkaSettings,
  topics: Readonly<Record<string, string>>,
  attempts = ATTEMPTS,
  producer: TopicProducer = new Producer({
    ...connectionOptions(settings, 0),
    ...{ acks: ProduceAcks.ALL, partitioner: compatibilityPartitioner },
  }),
): Sink {
  const put = async (topic: string, events: readonly Outgoing[]): Promise<void> => {
    const messages = events.map(({ bytes, event }) => ({ topic, key: Buffer.from(event.partitionKey), value: bytes }));
    let unanswered: unknown = null;
    for (let attempt = 0; attempt < attempts; attempt++) {
      if (attempt > 0) await sleep(Math.min(LONGEST_PAUSE_MS, 50 * 2 ** attempt));
      try {
        await producer.send({ acks: ProduceAcks.ALL, messages });
        return;
      } catch (error) {
        unanswered = error;
      }
    }
    throw new FreshetError("broker_unreachable", `Kafka did not take ${messages.length} records of ${topic}`, {
      repair: "run `freshet health`; events may be sent again, as ids are idempotent",
      cause: unanswered,
    });
  };
  return {
    async send(batch) {
      for (const [stream, events] of Map.groupBy(batch, ({ event }) => event.stream)) {
        for (let from = 0; from < events.length; from += RECORDS_PER_CALL) {
          await put(topics[stream]!, events.slice(from, from + RECORDS_PER_CALL));
        }
      }
      return batch.length;
    },
    async close() {
      await producer.close(true);
    },
  };
}

/**
 * @param packed KPL-aggregated records, which only Kinesis has use for
 * @param attempts of a call to Kafka that is not answered
 */
export function sinkTo(
  settings: BrokerSettings,
  streams: Readonly<Record<string, string>>,
  packed: boolean,
  seed: number,
  attempts?: number,
): Sink {
  if (settings.kind === "kafka") return topicSink(settings, streams, attempts);
  const client = createKinesisClient(settings.client);
  const sink = brokerSink(client, streams, packed, seed);
  return { send: (batch) => sink.send(batch), close: async () => client.destroy() };
}
