/** Readers of events by what the environment says of a schema registry. */
import { GlueClient } from "@aws-sdk/client-glue";
import type { S3Client } from "@aws-sdk/client-s3";
import { EventCodec, type EventReader } from "../../adapters/avro/event-codec.ts";
import { DURABLE_CLIENT } from "../../adapters/aws/durable-call.ts";
import { registryAddress } from "../../adapters/schema-registry/address.ts";
import { ConfluentRegistry } from "../../adapters/schema-registry/confluent.ts";
import { FramedCodec } from "../../adapters/schema-registry/framed-codec.ts";
import { GlueRegistry } from "../../adapters/schema-registry/glue.ts";
import { credentialsFrom, readSecret } from "../../adapters/schema-registry/secret.ts";
import { StoredSchemas } from "../../adapters/schema-registry/stored-schemas.ts";
import { WriterSchemas } from "../../adapters/schema-registry/writer-schemas.ts";
import { optionalEnvironment } from "./environment.ts";

/**
 * The registry at an address, with the credentials that the environment has or names.
 * @throws FreshetError `schema_registry_invalid`
 */
export function openRegistry(given: string): ConfluentRegistry | GlueRegistry {
  const address = registryAddress(given);
  if ("glue" in address) return new GlueRegistry({ registry: address.glue, client: new GlueClient(DURABLE_CLIENT) });
  const secret = optionalEnvironment("schemaRegistrySecret");
  const own = optionalEnvironment("schemaRegistryCredentials");
  if (secret !== undefined) return new ConfluentRegistry({ ...address, credentials: () => readSecret(secret) });
  if (own !== undefined) return new ConfluentRegistry({ ...address, credentials: async () => credentialsFrom(own) });
  return new ConfluentRegistry(address);
}

/** Where schemas stay that a registry has given. */
interface Kept {
  readonly bucket: string;
  readonly s3: S3Client;
}

/** Of each contract: all framings where a registry is configured, else our own alone. */
export const eventReaders = (kept: Kept): ((contract: string) => EventReader) => framedReaders(kept) ?? EventCodec.for;

/**
 * Of each contract: all framings; null where no registry is configured.
 * @param kept null for a host whose callers come again while the registry is away: it keeps schemas in memory alone
 */
export function framedReaders(kept: Kept | null): ((contract: string) => EventReader) | null {
  const address = optionalEnvironment("schemaRegistry");
  if (address === undefined) return null;
  const registry = openRegistry(address);
  const stored = kept === null ? IN_MEMORY : new StoredSchemas({ ...kept, registry: registry.name });
  const schemas = new WriterSchemas({ registry, stored });
  const readers = new Map<string, EventReader>();
  return (contract) => {
    const known = readers.get(contract) ?? new FramedCodec(EventCodec.for(contract), schemas);
    readers.set(contract, known);
    return known;
  };
}

const IN_MEMORY = { get: async () => null, put: async () => {} };
