import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { LateQueue } from "../adapters/late-queue/late-queue.ts";
import { ENVIRONMENT } from "../functions/shared/environment.ts";
import { clientConfig } from "./deploy.ts";
import type { Deployment } from "./state.ts";

/** What waits for repair: one for each late event and entity that it belongs to. */
export interface LateBacklog {
  readonly pending: number;
  /** False when the queue was too long to count; there are more then. */
  readonly complete: boolean;
}

/** The late queue of each stream. Reads all of it: for people, now and then. */
export async function readLateBacklog(
  emulatorPort: number,
  deployment: Deployment,
  streams: readonly string[] = Object.keys(deployment.streams),
): Promise<Record<string, LateBacklog>> {
  const dynamodb = new DynamoDBClient(clientConfig(emulatorPort));
  try {
    const queue = new LateQueue({ table: deployment.environment[ENVIRONMENT.lateTable], dynamodb });
    const counts = await Promise.all(streams.map(async (stream) => [stream, await queue.count(stream)] as const));
    return Object.fromEntries(counts);
  } finally {
    dynamodb.destroy();
  }
}
