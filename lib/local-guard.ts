/**
 * Keeps the local target on this machine. A deployment goes wherever the SDK's endpoint variables point, and without them
 * to AWS; so both the CLI wrapper and the synth of target `local` refuse any environment that is not loopback throughout.
 * Local stacks are moreover pinned to account 000000000000, which no credentials of a real account can deploy to.
 */
import { FreshetError } from "../core/errors.ts";

export const LOCAL_ACCOUNT = "000000000000";
export const LOCAL_REGION = "us-east-1";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * @param environment of the process that will run `cdk`
 * @throws FreshetError `endpoint_missing`, `endpoint_not_loopback` or `endpoint_ignored`
 */
export function assertLoopbackEndpoints(environment: Environment): void {
  const repair = "run `freshet deploy`, or set AWS_ENDPOINT_URL=http://127.0.0.1:<port of the emulator>";
  if (!environment["AWS_ENDPOINT_URL"]) {
    throw new FreshetError(
      "endpoint_missing",
      "target local needs AWS_ENDPOINT_URL: without it a deployment goes to AWS",
      { field: "AWS_ENDPOINT_URL", repair },
    );
  }
  // The SDK drops every configured endpoint when this is set, which means AWS again.
  if (environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] === "true") {
    throw new FreshetError(
      "endpoint_ignored",
      "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true, so the SDK would ignore AWS_ENDPOINT_URL and deploy to AWS",
      { field: "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", repair: "unset it" },
    );
  }
  // A service's own variable (AWS_ENDPOINT_URL_S3, …_CLOUDFORMATION) wins over the general one.
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith("AWS_ENDPOINT_URL") || !value || isLoopback(value)) continue;
    throw new FreshetError(
      "endpoint_not_loopback",
      `target local deploys to this machine only, but ${name} is ${withoutCredentials(value)}`,
      { field: name, repair },
    );
  }
}

/** What `cdk` is run with for target `local`: dummy credentials, loopback endpoints, nothing else of AWS. */
export function localCdkEnvironment(environment: Environment, endpoint: string): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined && !name.startsWith("AWS_")) result[name] = value;
  }
  Object.assign(result, {
    AWS_ENDPOINT_URL: endpoint,
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    AWS_REGION: LOCAL_REGION,
    AWS_DEFAULT_REGION: LOCAL_REGION,
    // Neither the profile files nor the instance metadata service may add what the environment does not say.
    AWS_CONFIG_FILE: "/dev/null",
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    AWS_EC2_METADATA_DISABLED: "true",
    // Three seconds of every deployment, for AWS's rules; the tests apply them to this target's templates too.
    CDK_VALIDATION: "false",
    CDK_DISABLE_VERSION_CHECK: "1",
    CDK_DISABLE_CLI_TELEMETRY: "true",
  });
  assertLoopbackEndpoints(result);
  return result;
}

function isLoopback(value: string): boolean {
  const url = URL.parse(value);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) return false;
  return /^127(\.\d{1,3}){3}$/.test(url.hostname) || url.hostname === "localhost" || url.hostname === "[::1]";
}

/** URLs may carry a user and a password, and messages reach logs. */
function withoutCredentials(value: string): string {
  const url = URL.parse(value);
  return url === null ? "not a URL" : `${url.protocol}//${url.host}`;
}
