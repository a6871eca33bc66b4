/** A registry's credentials: from Secrets Manager, by its one call, signed here, because a client of its own would be larger than the rest of this folder. */
import { defaultProvider } from "@aws-sdk/credential-provider-node";
import { SignatureV4 } from "@smithy/signature-v4";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import { SignerHash } from "../aws/signer-hash.ts";
import type { Credentials } from "./confluent.ts";

const TIMEOUT_MS = 5_000;

/**
 * @param json `{"username": …, "password": …}` or `{"token": …}`
 * @throws FreshetError `schema_registry_credentials`; the message holds nothing of them
 */
export function credentialsFrom(json: string): Credentials {
  let given: Partial<Record<keyof Credentials, unknown>> | null;
  try {
    given = JSON.parse(json);
  } catch {
    given = null;
  }
  const { username, password, token } = given ?? {};
  if (typeof token === "string") return { token };
  if (typeof username === "string" && typeof password === "string") return { username, password };
  throw new FreshetError("schema_registry_credentials", "the registry's credentials are not what they should be", {
    repair: 'store {"username": "…", "password": "…"} or {"token": "…"}, as JSON',
  });
}

/** @throws InfrastructureError `secret_unavailable`; FreshetError `schema_registry_credentials` */
export async function readSecret(arn: string): Promise<Credentials> {
  const region = arn.split(":")[3] || process.env["AWS_REGION"] || "us-east-1";
  const endpoint = new URL(process.env["AWS_ENDPOINT_URL"] ?? `https://secretsmanager.${region}.amazonaws.com`);
  const signer = new SignatureV4({
    service: "secretsmanager",
    region,
    credentials: defaultProvider(),
    sha256: SignerHash,
  });
  let secret: unknown;
  let status = 0;
  try {
    const { headers, body } = await signer.sign({
      method: "POST",
      protocol: endpoint.protocol,
      hostname: endpoint.hostname,
      path: "/",
      headers: {
        host: endpoint.host,
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "secretsmanager.GetSecretValue",
      },
      body: JSON.stringify({ SecretId: arn }),
    });
    const answer = await fetch(endpoint, { method: "POST", headers, body, signal: AbortSignal.timeout(TIMEOUT_MS) });
    status = answer.status;
    secret = secretIn(await answer.text());
  } catch (cause) {
    throw unavailable(arn, "did not answer", cause);
  }
  if (status !== 200 || typeof secret !== "string") throw unavailable(arn, `answered ${status}`);
  return credentialsFrom(secret);
}

/** What is no JSON has none; the parser's own error would quote it. */
function secretIn(answer: string): unknown {
  try {
    return (JSON.parse(answer) as { SecretString?: unknown } | null)?.SecretString;
  } catch {
    return undefined;
  }
}

const unavailable = (arn: string, what: string, cause?: unknown): InfrastructureError =>
  new InfrastructureError("secret_unavailable", `Secrets Manager ${what} when it was asked for ${arn}`, {
    repair: "restore the way to Secrets Manager, the secret, or the function's permission on it",
    cause,
  });
