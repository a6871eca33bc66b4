/** Every answer that a registry, or what stands before it, may give: which of them are definite, and which only say that it is ill. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import { ConfluentRegistry, type Credentials } from "../../../adapters/schema-registry/confluent.ts";
import { credentialsFrom } from "../../../adapters/schema-registry/secret.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";

interface Seen {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: any;
}
let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = null;
});

async function registry(
  answer: (seen: Seen, response: ServerResponse) => void,
  options: { credentials?: () => Promise<Credentials>; timeoutMs?: number } = {},
): Promise<ConfluentRegistry> {
  server = createServer(async (request: IncomingMessage, response) => {
    const body = request.method === "GET" ? null : await json(request);
    const { method = "", url = "" } = request;
    answer({ method, path: url, authorization: request.headers.authorization, body }, response);
  });
  await new Promise<void>((settle) => server!.listen(0, "127.0.0.1", settle));
  const { port } = server.address() as AddressInfo;
  return new ConfluentRegistry({ url: `http://127.0.0.1:${port}/base`, ...options });
}
const say = (response: ServerResponse, status: number, body: unknown) =>
  response.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
async function failureOf(run: () => Promise<unknown>): Promise<FreshetError> {
  try {
    await run();
  } catch (error) {
    if (error instanceof FreshetError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("a schema is looked up", () => {
  test("by its id, and by its GUID", async () => {
    const paths: string[] = [];
    const client = await registry(({ path }, response) => {
      paths.push(path);
      say(response, 200, { schema: "{}" });
    });
    expect(await client.find("confluent-7")).toEqual({ text: "{}" });
    expect(await client.find("confluent-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")).toEqual({ text: "{}" });
    expect(paths).toEqual(["/base/schemas/ids/7", "/base/schemas/guids/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"]);
  });

  test("and is none that can be read when it is no Avro", async () => {
    const answers = [
      { schema: "{}", schemaType: "JSON" },
      { schema: "{}", schemaType: "AVRO", references: [] },
    ];
    const client = await registry((_, response) => say(response, 200, answers.shift()));
    expect(await client.find("confluent-1")).toEqual({ text: null });
    expect(await client.find("confluent-1")).toEqual({ text: "{}" });
  });

  test("with what it refers to, by subject and version", async () => {
    const money = '{"type":"fixed","name":"Money","size":4}';
    const answers: Record<string, [number, unknown]> = {
      "/base/schemas/ids/1": [200, { schema: '"Money"', references: [{ name: "Money", subject: "a/b", version: 3 }] }],
      "/base/subjects/a%2Fb/versions/3": [200, { schema: money }],
    };
    const client = await registry(({ path }, response) => say(response, ...answers[path]!));
    const found = await client.find("confluent-1");
    expect(JSON.parse(found!.text!)).toEqual({ ...JSON.parse(money), namespace: "" });
    const part = "/base/subjects/a%2Fb/versions/3";
    answers[part] = [200, { schema: "message Money {}", schemaType: "PROTOBUF" }];
    expect(await client.find("confluent-1")).toEqual({ text: null });
    for (const error_code of [40401, 40402]) {
      answers[part] = [404, { error_code }];
      expect(await client.find("confluent-1")).toBe(null);
    }
    for (const ill of [
      [404, "<html>"],
      [500, ""],
      [200, { schema: 7 }],
    ] as [number, unknown][]) {
      answers[part] = ill;
      expect((await failureOf(() => client.find("confluent-1"))).code).toBe("schema_registry_unavailable");
    }
    answers["/base/schemas/ids/1"] = [200, { schema: '"Money"', references: [{ name: "Money" }] }];
    expect((await failureOf(() => client.find("confluent-1"))).code).toBe("schema_registry_unavailable");
  });

  test("and is not there only when the registry says so in its own words", async () => {
    const client = await registry((_, response) =>
      say(response, 404, { error_code: 40403, message: "Schema not found" }),
    );
    expect(await client.find("confluent-1")).toBe(null);
  });

  test("and a bare 404 is believed where the rest of the registry answers: it may know no GUIDs", async () => {
    const client = await registry(({ path }, response) =>
      path === "/base/config" ? say(response, 200, { compatibilityLevel: "NONE" }) : say(response, 404, ""),
    );
    expect(await client.find("confluent-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")).toBe(null);
  });

  test("and is not there, without a question, when it is Glue's", async () => {
    const client = await registry((_, response) => say(response, 500, ""));
    expect(await client.find("glue-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")).toBe(null);
  });

  test.each<[string, number, unknown]>([
    ["a wrong path's 404", 404, { error_code: 404, message: "HTTP 404 Not Found" }],
    ["a proxy's 404", 404, "<html>not here</html>"],
    ["no permission", 403, { error_code: 40301 }],
    ["wrong credentials", 401, ""],
    ["too many requests", 429, ""],
    ["a registry without its store", 500, { error_code: 50001 }],
    ["a gateway", 502, "<html>"],
    ["a page instead of an answer", 200, "<html>welcome</html>"],
    ["an answer without a schema", 200, { id: 7 }],
    ["a schema that is no text", 200, { schema: {} }],
    ["JSON that is cut", 200, '{"schema": "{'],
    ["an answer that is too large", 200, { schema: "x".repeat(3_000_000) }],
  ])("%s says nothing of the schema", async (_, status, body) => {
    const client = await registry((_, response) => say(response, status, body));
    const error = await failureOf(() => client.find("confluent-1"));
    expect(error).toBeInstanceOf(InfrastructureError);
    expect(error.code).toBe("schema_registry_unavailable");
  });

  test("no answer in time, a cut connection and a closed port say nothing of it either", async () => {
    const silent = await registry(() => {}, { timeoutMs: 50 });
    expect((await failureOf(() => silent.find("confluent-1"))).code).toBe("schema_registry_unavailable");
    const cut = await registry((_, response) => response.socket!.destroy());
    expect((await failureOf(() => cut.find("confluent-1"))).code).toBe("schema_registry_unavailable");
    server!.close();
    expect((await failureOf(() => cut.find("confluent-1"))).code).toBe("schema_registry_unavailable");
  });

  test("and a redirect is not followed, since credentials would go with it", async () => {
    const client = await registry((_, response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end());
    expect((await failureOf(() => client.find("confluent-1"))).code).toBe("schema_registry_unavailable");
  });
});

describe("credentials", () => {
  test("are a user's or a token, read again when they are refused, and in no message", async () => {
    const seen: (string | undefined)[] = [];
    const given = ['{"username":"u","password":"old:secret"}', '{"token":"new-secret"}'].map(credentialsFrom);
    const client = await registry(
      ({ authorization }, response) => {
        seen.push(authorization);
        say(response, authorization?.startsWith("Bearer") ? 200 : 401, { schema: "{}" });
      },
      { credentials: async () => given.shift() ?? credentialsFrom('{"username":"u","password":"last-secret"}') },
    );
    expect(await client.find("confluent-1")).toEqual({ text: "{}" });
    expect(await client.find("confluent-2")).toEqual({ text: "{}" });
    const basic = `Basic ${Buffer.from("u:old:secret").toString("base64")}`;
    expect(seen).toEqual([basic, "Bearer new-secret", "Bearer new-secret"]);
    server!.removeAllListeners("request").on("request", (_, response) => say(response, 401, ""));
    const error = await failureOf(() => client.find("confluent-3"));
    expect(JSON.stringify([error.message, error.repair, String(error.cause)])).not.toContain("secret");
  });

  test("that are of no known form are refused without a word of them", () => {
    for (const wrong of ["secret", '"secret"', "null", '{"user":"secret"}', '{"username":"secret"}']) {
      expect(() => credentialsFrom(wrong)).toThrow("the registry's credentials are not what they should be");
    }
  });
});

test("a schema that breaks the subject's rule is refused with the registry's reason", async () => {
  const client = await registry((_, response) =>
    say(response, 409, { error_code: 409, message: "READER_FIELD_MISSING" }),
  );
  const error = await failureOf(() => client.register({ subject: "a/b-value", text: "{}" }));
  expect(error.code).toBe("schema_refused");
  expect(error.message).toBe("the registry refuses the schema under a/b-value (409): READER_FIELD_MISSING");
});
