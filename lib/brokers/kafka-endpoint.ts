import type { Broker } from "../broker.ts";
import { EndpointTopics } from "../constructs/endpoint-topics.ts";

/**
 * A Kafka that is already there, plaintext and without users: for a laptop, where no emulator has one. Its topics are made, and
 * its records handed to the aggregate function, by what runs beside it.
 * @param bootstrapServers host:port, comma-separated, as the functions see them
 */
export const kafkaEndpointBroker = (bootstrapServers: string): Broker => ({
  name: "kafka",
  zones: () => 1,
  endpoints: () => ({}),
  eventStreams: (scope, id, deployment) => new EndpointTopics(scope, id, { deployment, bootstrapServers }),
});
