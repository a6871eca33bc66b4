/** CloudFormation asks for the topics of a deployment, from inside the brokers' network. What is there is never removed. */
import type { CloudFormationCustomResourceEvent } from "aws-lambda";
import { ensureTopics, type TopicSettings } from "../adapters/kafka/topics.ts";
import { FreshetError } from "../core/errors.ts";
import { brokerFromEnvironment } from "./shared/broker.ts";
import { describeError, logger } from "./shared/observability.ts";

/** What the resource is called for ever: another name would have CloudFormation remove the one before. */
const RESOURCE = { PhysicalResourceId: "freshet-topics" };

/** @throws FreshetError `broker_unknown`, `kafka_settings`, and what the client throws: the deployment fails then, and is rolled back */
export async function handler(
  event: Pick<CloudFormationCustomResourceEvent, "RequestType" | "ResourceProperties">,
): Promise<typeof RESOURCE> {
  if (event.RequestType === "Delete") return RESOURCE;
  const broker = brokerFromEnvironment({});
  if (broker.kind !== "kafka") {
    throw new FreshetError("broker_unknown", `topics are Kafka's, and the broker is ${broker.kind}`, {
      repair: "deploy with the CDK app and -c broker=msk, which sets it",
    });
  }
  try {
    const topics = JSON.parse(event.ResourceProperties["Topics"]) as TopicSettings[];
    const { made, widened } = await ensureTopics(broker, topics);
    logger.info("topics", { topics: topics.length, made, widened });
    return RESOURCE;
  } catch (error) {
    logger.error("topics not made", describeError(error));
    throw error;
  }
}
