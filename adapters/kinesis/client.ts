import { KinesisClient, type KinesisClientConfig } from "@aws-sdk/client-kinesis";
import { NodeHttpHandler, type NodeHttpHandlerOptions } from "@smithy/node-http-handler";

/**
 * A Kinesis client over HTTP/1.1. The SDK's own choice is HTTP/2, of which only subscriptions have any use; an emulator
 * behind a simple HTTP/2 server cuts answers at the first flow-control window, 64 KB.
 */
export const createKinesisClient = (config: KinesisClientConfig = {}): KinesisClient =>
  new KinesisClient({
    ...config,
    requestHandler: NodeHttpHandler.create(config.requestHandler as NodeHttpHandlerOptions),
  });
