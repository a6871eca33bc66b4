/** Credentials out of Secrets Manager: the one call, signed as AWS checks it, and every answer that it may give. */
import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { readSecret } from "../../../adapters/schema-registry/secret.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";

const ARN = "arn:aws:secretsmanager:eu-north-1:123456789012:secret:registry-a1b2c3";
const KEY = { id: "AKIDEXAMPLE", secret: "key-of-the-caller" };

let server: Server;
let answer: (response: ServerResponse) => void;
let seen: { headers: IncomingMessage["headers"]; body: string; method: string; path: string }[];
beforeEach(async () => {
  seen = [];
  server = createServer(async (request, response) => {
    const { headers, method = "", url: path = "" } = request;
    seen.push({ headers, body: await text(request), method, path });
    answer(response);
  });
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  const { port } = server.address() as AddressInfo;
  vi.stubEnv("AWS_ENDPOINT_URL", `http://127.0.0.1:${port}`);
  vi.stubEnv("AWS_ACCESS_KEY_ID", KEY.id);
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", KEY.secret);
  vi.stubEnv("AWS_SESSION_TOKEN", "token-of-the-session");
  // The secret's own region counts.
  vi.stubEnv("AWS_REGION", "us-west-2");
});
afterEach(() => {
  vi.unstubAllEnvs();
  server.closeAllConnections();
  server.close();
});

const say = (status: number, body: unknown) => (response: ServerResponse) =>
  void response.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
const holding = (secret: unknown) => say(200, { SecretString: JSON.stringify(secret) });
async function failure(): Promise<FreshetError> {
  try {
    await readSecret(ARN);
  } catch (error) {
    if (error instanceof FreshetError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** As "Create a signed AWS API request" has it, from the request that came. */
function signatureOf({ headers, body, method, path }: (typeof seen)[number]): string {
  const [, scope, names, given] = /Credential=[^/]+\/(\S+), SignedHeaders=(\S+), Signature=(\S+)$/.exec(
    headers.authorization!,
  )!;
  expect(names!.split(";")).toEqual(
    expect.arrayContaining(["host", "x-amz-date", "x-amz-target", "x-amz-security-token"]),
  );
  const sha = (of: string) => createHash("sha256").update(of).digest("hex");
  const lines = names!.split(";").map((name) => `${name}:${headers[name]}\n`);
  const request = [method, path, "", lines.join(""), names, sha(body)].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, sha(request)].join("\n");
  const mac = (key: string | Buffer, of: string) => createHmac("sha256", key).update(of).digest();
  const signing = scope!.split("/").reduce<string | Buffer>(mac, `AWS4${KEY.secret}`);
  expect(scope!.split("/").slice(1)).toEqual(["eu-north-1", "secretsmanager", "aws4_request"]);
  expect(given).toMatch(/^[0-9a-f]{64}$/);
  return mac(signing, toSign).toString("hex");
}

test("a user's credentials or a token are read by a call that AWS would take for signed", async () => {
  answer = holding({ username: "u", password: "p" });
  expect(await readSecret(ARN)).toEqual({ username: "u", password: "p" });
  answer = holding({ token: "t", note: "kept for the others" });
  expect(await readSecret(ARN)).toEqual({ token: "t" });
  const [first] = seen;
  expect(first).toMatchObject({ method: "POST", path: "/", body: JSON.stringify({ SecretId: ARN }) });
  expect(first!.headers).toMatchObject({
    "x-amz-target": "secretsmanager.GetSecretValue",
    "content-type": "application/x-amz-json-1.1",
  });
  expect(first!.headers.authorization).toContain(`Signature=${signatureOf(first!)}`);
});

test.each<[string, (response: ServerResponse) => void, string]>([
  ["is not allowed", say(400, { __type: "AccessDeniedException", Message: "hidden-word" }), "answered 400"],
  ["is not there", say(400, { __type: "ResourceNotFoundException" }), "answered 400"],
  ["holds bytes instead of text", say(200, { SecretBinary: "aGlkZGVuLXdvcmQ=" }), "answered 200"],
  ["meets a service that is ill", say(503, "<html>hidden-word</html>"), "answered 503"],
  ["is cut off", say(200, '{"SecretString":"hidden-word'), "answered 200"],
  ["loses its connection", (response) => response.socket!.destroy(), "did not answer"],
])("a secret that %s leaves everything open", async (_, given, what) => {
  answer = given;
  const error = await failure();
  expect(error).toBeInstanceOf(InfrastructureError);
  expect([error.code, error.message]).toEqual([
    "secret_unavailable",
    `Secrets Manager ${what} when it was asked for ${ARN}`,
  ]);
  expect(JSON.stringify([error.message, error.repair, String(error.cause)])).not.toContain("hidden-word");
});

test("a secret of another form is told without a word of it", async () => {
  for (const wrong of [{ user: "hidden-word" }, "hidden-word", { username: "hidden-word" }]) {
    answer = holding(wrong);
    const error = await failure();
    expect(error.code).toBe("schema_registry_credentials");
    expect(JSON.stringify([error.message, error.repair, String(error.cause)])).not.toContain("hidden-word");
  }
});
