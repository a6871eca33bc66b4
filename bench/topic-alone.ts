/** Baseline of the pipeline row on Kafka: the same node and the same records, with nothing behind the topic but a client's own stream of messages. */
import { Admin, Consumer, MessagesStreamModes } from "@platformatic/kafka";
import type { KafkaSettings } from "../adapters/broker/open-broker.ts";
import { connectionOptions } from "../adapters/kafka/connection.ts";
import { ensureTopics } from "../adapters/kafka/topics.ts";
import { PARTITIONS } from "../local/kafka/topics.ts";

const LIMIT_MS = 120_000;
/** As long as a fetch waits for records that are not there. */
const WAIT_MS = 500;

/**
 * @param produce sends the events to the topic
 * @returns when the last was read, epoch ms
 */
export async function drainTopic(
  settings: KafkaSettings,
  events: number,
  produce: (topic: string) => Promise<unknown>,
  signal: AbortSignal,
): Promise<number> {
  const name = `freshet-bench-${Date.now()}`;
  const configuration = { "message.timestamp.type": "LogAppendTime" };
  await ensureTopics(settings, [{ name, partitions: PARTITIONS, replication: 1, configuration }]);
  const consumer = new Consumer({ ...connectionOptions(settings), groupId: name, maxWaitTime: WAIT_MS });
  try {
    const messages = await consumer.consume({
      ...{ topics: [name], mode: MessagesStreamModes.EARLIEST, autocommit: false, maxWaitTime: WAIT_MS },
    });
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
    const stop = (): void => void messages.destroy(new Error(`not all of ${events} events were read back in time`));
    limit.addEventListener("abort", stop, { once: true });
    const drained = (async () => {
      let seen = 0;
      for await (const _ of messages) if (++seen === events) break;
      return Date.now();
    })();
    const [endedMs] = await Promise.all([drained, produce(name)]);
    limit.removeEventListener("abort", stop);
    return endedMs;
  } finally {
    await consumer.close(true).catch(() => {});
    const admin = new Admin(connectionOptions(settings));
    await admin.deleteTopics({ topics: [name] }).catch(() => {});
    await admin.close();
  }
}
