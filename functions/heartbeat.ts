/**
 * Each minute, outside the VPC: puts a heartbeat onto every open shard, so that an idle one does not hold the seal back,
 * and hands control the list of shards, which control cannot read from inside the VPC.
 */

import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { encodeHeartbeat } from "../adapters/avro/event-codec.ts";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { openBroker } from "../adapters/broker/open-broker.ts";
import type { ControlEvent } from "./control.ts";
import { brokerFromEnvironment } from "./shared/broker.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { describeError, logger } from "./shared/observability.ts";

const opened = openBroker(brokerFromEnvironment(DURABLE_CLIENT));
// Told by each invocation.
opened.catch(() => {});
const lambda = new LambdaClient(DURABLE_CLIENT);
const streamNames = JSON.parse(requireEnvironment("streams")) as Record<string, string>;
const controlFunction = requireEnvironment("controlFunction");

export async function handler(): Promise<void> {
  const broker = await opened;
  const streams: Record<string, NonNullable<ControlEvent["streams"]>[string]> = {};
  const failures: unknown[] = [];
  for (const [name, ofBroker] of Object.entries(streamNames)) {
    try {
      const { createdAtMs, shards } = await broker.list(ofBroker);
      streams[name] = { createdAtMs, shards: shards.map(({ id, parents, closed }) => ({ id, parents, closed })) };
      await broker.putOnEveryShard(ofBroker, shards, encodeHeartbeat(Date.now()));
    } catch (error) {
      // The seal of this stream waits; those of the others need not.
      logger.error("heartbeat failed", { stream: name, ...describeError(error) });
      failures.push(error);
    }
  }
  // Not waited for: control reports its own failures, and a minute later comes the next tick.
  const tick: ControlEvent = { kind: "tick", streams };
  await lambda.send(
    new InvokeCommand({ FunctionName: controlFunction, InvocationType: "Event", Payload: JSON.stringify(tick) }),
  );
  logger.info("heartbeat", { streams: Object.keys(streams).length, failed: failures.length });
  if (failures.length > 0) throw failures[0];
}
