/** How to reach Valkey, from the environment that the online store's construct sets. */
import { defaultProvider } from "@aws-sdk/credential-provider-node";
import { SignatureV4 } from "@smithy/signature-v4";
import { optionalEnvironment, requireEnvironment } from "../../functions/shared/environment.ts";
import { SignerHash } from "../aws/signer-hash.ts";
import type { ValkeyOptions } from "./connection.ts";

export function valkeyOptionsFromEnvironment(): ValkeyOptions {
  const user = optionalEnvironment("valkeyUser");
  return {
    host: requireEnvironment("valkeyHost"),
    port: Number(requireEnvironment("valkeyPort")),
    tls: optionalEnvironment("valkeyTls") === "1",
    cluster: optionalEnvironment("valkeyCluster") === "1",
    ...(user ? { user, password: () => iamToken(user, requireEnvironment("valkeyCacheName")) } : {}),
  };
}

/**
 * The password of an ElastiCache user with IAM authentication: a signed URL without its scheme, made here without any call,
 * valid for 15 minutes for new connections (ElastiCache guide, "Authenticating with IAM").
 */
async function iamToken(user: string, cacheName: string): Promise<string> {
  const signer = new SignatureV4({
    service: "elasticache",
    region: process.env["AWS_REGION"] ?? "us-east-1",
    credentials: defaultProvider(),
    sha256: SignerHash,
  });
  const signed = await signer.presign(
    {
      method: "GET",
      protocol: "http:",
      hostname: cacheName,
      path: "/",
      headers: { host: cacheName },
      query: { Action: "connect", User: user },
    },
    { expiresIn: 900 },
  );
  const query = Object.entries(signed.query ?? {}).map(
    ([k, v]) => `${encodeURIComponent(k)}=${encodeURIComponent(String(v))}`,
  );
  return `${cacheName}/?${query.join("&")}`;
}
