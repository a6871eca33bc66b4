import { InterfaceVpcEndpointAwsService } from "aws-cdk-lib/aws-ec2";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import type { NodeFunction } from "./node-function.ts";

/** Where the schemas are that producers of other systems name by an id. */
export interface SchemaRegistryChoice {
  /** An address of Confluent's API, or `glue:<registry>`. */
  readonly address: string;
  /** ARN of the secret with its credentials. @default it wants none */
  readonly secretArn?: string;
}

const isGlue = ({ address }: SchemaRegistryChoice): boolean => address.startsWith("glue:");

/** What functions in a network without a way out need to reach the registry: endpoints, billed by the hour and zone, and a port beside 443. */
export function registryReach({ schemaRegistry }: Deployment): {
  readonly endpoints: Readonly<Record<string, InterfaceVpcEndpointAwsService>>;
  readonly port: number | null;
} {
  if (schemaRegistry === undefined) return { endpoints: {}, port: null };
  if (isGlue(schemaRegistry)) return { endpoints: { Glue: InterfaceVpcEndpointAwsService.GLUE }, port: null };
  const { port } = new URL(schemaRegistry.address);
  const secrets = { SecretsManager: InterfaceVpcEndpointAwsService.SECRETS_MANAGER };
  return { endpoints: schemaRegistry.secretArn === undefined ? {} : secrets, port: port === "" ? null : Number(port) };
}

/** To read events in the framing of a registry, and to keep its schemas in the archive's bucket. Nothing where there is none. */
export function grantSchemas(fn: NodeFunction, deployment: Deployment, archive: Archive): void {
  if (deployment.schemaRegistry !== undefined) archive.grantSchemas(fn);
  grantRegistry(fn, deployment);
}

/** To ask the registry for schemas. Nothing where there is none. */
export function grantRegistry(fn: NodeFunction, { schemaRegistry }: Deployment): void {
  if (schemaRegistry === undefined) return;
  const { address, secretArn } = schemaRegistry;
  fn.set("schemaRegistry", address);
  // Glue looks a version up by its id alone, and then takes no narrower resource.
  if (isGlue(schemaRegistry)) fn.allow(["glue:GetSchemaVersion"], ["*"]);
  if (secretArn === undefined) return;
  fn.allow(["secretsmanager:GetSecretValue"], [secretArn]);
  fn.set("schemaRegistrySecret", secretArn);
}
