/**
 * What API Gateway asks before it lets a request in: is this a key of ours? The answer is kept by API Gateway for each key, so it says
 * nothing of one request: expiry to the millisecond, scopes and limits are the router's, which checks the key again.
 * What is no key never reaches the functions behind. See docs/decisions/0009-keys-in-the-router.md.
 */

import { Problem } from "../problems.ts";
import type { Authenticator } from "./keys.ts";
import { type UsageKeys, usageKeyOf } from "./usage-key.ts";

/** What is read of API Gateway's REQUEST event. */
export interface AuthorizerEvent {
  /** `arn:aws:execute-api:<region>:<account>:<api>/<stage>/<method>/<path>`. */
  readonly methodArn: string;
  readonly headers?: Readonly<Record<string, string | undefined>> | null;
  readonly requestContext?: { readonly identity?: { readonly sourceIp?: string } };
}

export interface AuthorizerAnswer {
  readonly principalId: string;
  readonly policyDocument: {
    readonly Version: "2012-10-17";
    readonly Statement: readonly [
      { readonly Action: "execute-api:Invoke"; readonly Effect: "Allow" | "Deny"; readonly Resource: string },
    ];
  };
  /** The key of a usage plan by which the request counts, whatever the caller has sent. */
  readonly usageIdentifierKey?: string;
  /** For the access log. */
  readonly context?: Readonly<Record<string, string>>;
}

/**
 * @param usageKeys null where API Gateway counts nobody's requests
 * @returns rejects when keys cannot be checked, which API Gateway does not keep and answers with 503
 */
export function createAuthorizer(authenticate: Authenticator, usageKeys: UsageKeys | null) {
  const counted = (tenant: string | null) =>
    usageKeys === null ? {} : { usageIdentifierKey: usageKeyOf(usageKeys, tenant) };
  return async (event: AuthorizerEvent): Promise<AuthorizerAnswer> => {
    const presented = Object.entries(event.headers ?? {}).find(([name]) => name.toLowerCase() === "x-api-key")?.[1];
    try {
      const { keyId, tenant } = await authenticate(presented, () => event.requestContext?.identity?.sourceIp ?? "");
      const told = answer("Allow", keyId, event.methodArn, { key_id: keyId, tenant });
      return { ...told, ...counted(tenant) };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // The router tells its holder that it has expired.
      if (error.code === "api_key_expired") return { ...answer("Allow", "expired", event.methodArn), ...counted(null) };
      if (error.status === 401) return answer("Deny", "nobody", event.methodArn);
      throw error;
    }
  };
}

/** For every method and path of the stage, since the answer is kept for the key alone. */
function answer(
  Effect: "Allow" | "Deny",
  principalId: string,
  methodArn: string,
  context?: Readonly<Record<string, string>>,
): AuthorizerAnswer {
  const [api, stage] = methodArn.split("/");
  const Resource = `${api}/${stage}/*`;
  return {
    principalId,
    policyDocument: { Version: "2012-10-17", Statement: [{ Action: "execute-api:Invoke", Effect, Resource }] },
    context,
  };
}
