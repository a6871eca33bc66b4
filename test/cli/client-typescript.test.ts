/** The generated client: what compiles and what does not, and how it meets servers that are busy, slow, silent or gone. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createContext, runInContext } from "node:vm";
import { transformSync } from "esbuild";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { typescriptClient } from "../../cli/client-typescript.ts";
import { type ClientOptions, FreshetClient } from "../../clients/typescript/client.ts";
import type { FreshetError } from "../../clients/typescript/errors.ts";
import { plan } from "../../features/plan.ts";
import { enrichedPlan } from "../support/enriched-plan.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const folder = mkdtempSync(join(tmpdir(), "freshet-client-"));
const consumer = readFileSync(join(ROOT, "test/fixtures/clients/consumer.ts.txt"), "utf8");
afterAll(() => rmSync(folder, { recursive: true }));

describe("the types", { tags: ["slow"] }, () => {
  // Browsers' types alone: the client may use nothing of Node's.
  const strict = ["--noEmit", "--strict", "--noUnusedLocals", "--erasableSyntaxOnly", "--ignoreConfig", "--types", ""];
  const target = ["--target", "es2022", "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler"];

  function compile(text: string): string[] {
    writeFileSync(join(folder, "freshet.ts"), typescriptClient(plan));
    writeFileSync(join(folder, "consumer.ts"), text);
    const tsc = join(ROOT, "node_modules", ".bin", "tsc");
    const args = [...strict, ...target, "--allowImportingTsExtensions", "consumer.ts"];
    const { stdout, status } = spawnSync(tsc, args, { cwd: folder, encoding: "utf8" });
    const errors = stdout.split("\n").filter((line) => / error TS\d+: /.test(line));
    expect(status === 0).toBe(errors.length === 0);
    return errors;
  }

  it("take every right call, and each wrong one is an error where it is wrong", () => {
    expect(compile(consumer)).toEqual([]);
    const marked = consumer.split("\n").flatMap((line, i) => (line.includes("@ts-expect-error") ? [i + 2] : []));
    expect(marked.length).toBeGreaterThan(14);
    const lines = compile(consumer.replaceAll("@ts-expect-error", "")).map((error) =>
      Number(/\((\d+),/.exec(error)?.[1]),
    );
    expect([...new Set(lines)]).toEqual(marked);
  });

  it("have what services take of registered features, once, whoever has registered it", () => {
    const [service] = plan.services;
    const age = { name: "profile:age", version: 2, entity: "card", dtype: "int64" as const };
    const taking = { ...service, features: [...service.features, age.name], registered: [age] };
    const text = typescriptClient({ ...plan, services: [taking, { ...taking, name: "other" }] });
    const line =
      'readonly "profile:age": { readonly entity: "card"; readonly joinKey: "card_id"; readonly value: number };';
    expect(text.split(line)).toHaveLength(2);
    expect(text.match(/readonly features: .*"profile:age"/g)).toHaveLength(2);
  });

  it("leave out what ingest looks up", () => {
    const text = typescriptClient(enrichedPlan);
    const event = text.slice(text.indexOf("export interface ClicksEvent"));
    const fields = event.slice(0, event.indexOf("\n}"));
    expect(fields).toContain("readonly item_id: string;");
    expect(fields).not.toContain("dwell_ms");
  });

  it("are printed, written and checked by freshet client", () => {
    const file = join(folder, "out", "freshet.ts");
    const freshet = (...args: string[]) =>
      spawnSync(process.execPath, [join(ROOT, "cli/freshet.ts"), "client", "typescript", ...args], {
        encoding: "utf8",
      });
    expect(freshet("--out", file, "--check")).toMatchObject({
      status: 1,
      stdout: `${file}: is not what the definitions give\n`,
    });
    expect(JSON.parse(freshet("--out", file, "--json").stdout)).toEqual({
      file,
      plan: plan.hash,
      current: false,
      written: true,
    });
    expect(readFileSync(file, "utf8")).toBe(freshet().stdout);
    expect(freshet("--out", file, "--check")).toMatchObject({ status: 0, stdout: `${file}: is current\n` });
    expect(freshet("--check")).toMatchObject({ status: 2 });
    // As it is, without a dependency or a step between.
    execFileSync(process.execPath, ["--input-type=module", "-e", `await import(${JSON.stringify(file)})`]);
  });
});

describe("a server that", () => {
  type Answer = (request: IncomingMessage, response: ServerResponse, body: any) => void;
  let server: Server;
  let answers: Answer[] = [];
  let seen: { path: string; body: any; atMs: number }[] = [];

  beforeAll(async () => {
    server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString();
      const body = text === "" ? null : JSON.parse(text);
      seen.push({ path: request.url!, body, atMs: Date.now() });
      const answer = answers.length > 1 ? answers.shift()! : answers[0];
      answer(request, response, body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => server.close());
  afterEach(() => {
    answers = [];
    seen = [];
  });

  const reply =
    (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
    (_, response) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    };
  const busy = (headers: Record<string, string> = {}, status = 429) =>
    reply(status, { code: "throttled", detail: "too much", repair: "wait", request_id: "r1" }, headers);
  const client = (options: Partial<ClientOptions> = {}) =>
    new FreshetClient<any>({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
      apiKey: "k",
      ...options,
    });
  const ok = { features: {}, as_of_ms: 1, degraded: false, degraded_reason: null, request_id: "r" };
  const read = (options?: Partial<ClientOptions>) =>
    client(options).online({ features: ["a:b"], entities: { id: "c" } as never });
  const failure = async (work: Promise<unknown>): Promise<FreshetError> => {
    try {
      await work;
    } catch (error) {
      return error as FreshetError;
    }
    throw new Error("nothing was thrown");
  };

  /** A server of its own, so that waits of many seconds are waited for together. @returns when it was called, twice */
  async function callsAfter(first: Answer): Promise<number[]> {
    const calls: number[] = [];
    const own = createServer((request, response) => {
      calls.push(Date.now());
      request.resume();
      const answer = calls.length === 1 ? first : reply(200, ok);
      request.once("end", () => answer(request, response, null));
    });
    await new Promise<void>((resolve) => own.listen(0, "127.0.0.1", resolve));
    try {
      expect(await read({ url: `http://127.0.0.1:${(own.address() as AddressInfo).port}` })).toEqual(ok);
    } finally {
      own.close();
    }
    expect(calls).toHaveLength(2);
    return calls;
  }

  it("answers 429, 502, 503 or 504 is asked again, and no earlier than it says, in seconds or as a date", async () => {
    const statuses = [429, 502, 503, 504].map((status) => callsAfter(busy({ "retry-after": "1" }, status)));
    for (const [first, second] of await Promise.all(statuses)) expect(second - first).toBeGreaterThanOrEqual(999);
    let date = "";
    const [, second] = await callsAfter((request, response, body) => {
      date = new Date(Date.now() + 2_000).toUTCString();
      busy({ "retry-after": date })(request, response, body);
    });
    expect(second).toBeGreaterThanOrEqual(Date.parse(date) - 1);
  });

  it("asks to wait for longer than the call may take is not waited for", async () => {
    answers = [busy({ "retry-after": "3600" })];
    expect(await failure(read())).toMatchObject({ status: 429, code: "throttled", repair: "wait", requestId: "r1" });
    expect(seen).toHaveLength(1);
  });

  it("has no quota left for a call is not asked again", async () => {
    answers = [reply(429, { code: "quota_exceeded", detail: "the call costs 11 tokens" })];
    expect(await failure(read())).toMatchObject({ status: 429, code: "quota_exceeded" });
    expect(seen).toHaveLength(1);
  });

  it("is busy for good is given up after four attempts, with its words", async () => {
    answers = [busy()];
    expect(await failure(read())).toMatchObject({ message: "too much", status: 429 });
    expect(seen).toHaveLength(4);
  });

  it("refuses is not asked again", async () => {
    answers = [reply(400, { code: "wrong_type", detail: "no", field: "entities.id" })];
    expect(await failure(read())).toMatchObject({ status: 400, code: "wrong_type", field: "entities.id" });
    answers = [reply(500, "<html>")];
    expect(await failure(read())).toMatchObject({ status: 500, code: "http_500" });
    expect(seen).toHaveLength(2);
  });

  it("cuts the connection is asked again", async () => {
    answers = [(request) => request.socket.destroy(), reply(200, ok)];
    expect(await read()).toEqual(ok);
  });

  it("keeps silent is asked again, within the deadline of the call", async () => {
    answers = [() => {}];
    // Counted here: a busy machine may end an attempt before it has reached the server.
    let attempts = 0;
    const counting: typeof fetch = (...args) => {
      attempts++;
      return fetch(...args);
    };
    const silence = { status: 0, code: "timeout", message: "the API did not answer in time" };
    expect(await failure(read({ fetch: counting, timeoutMs: 50, deadlineMs: 600_000 }))).toMatchObject(silence);
    expect(attempts).toBe(4);
    // Longer than the test itself may take, but for the deadline.
    expect(await failure(read({ fetch: counting, timeoutMs: 600_000, deadlineMs: 200 }))).toMatchObject(silence);
    expect(attempts).toBe(5);
  });

  it("answers something else than JSON is told so", async () => {
    answers = [reply(200, "hello")];
    expect(await failure(read())).toMatchObject({ code: "answer_unreadable" });
  });

  it("took a historical job and lost the answer does not get a second one", async () => {
    answers = [(request) => request.socket.destroy()];
    expect(await failure(client().historical({ service: "fraud" } as never))).toMatchObject({ code: "network" });
    expect(seen).toHaveLength(1);
  });

  it("may have started a historical job, behind a gateway that has no answer, does not start a second one", async () => {
    for (const [status, calls] of [
      [502, 1],
      [504, 1],
      [503, 4],
      [429, 4],
    ] as const) {
      seen.length = 0;
      answers = [reply(status, { code: "c", detail: "d" })];
      expect(await failure(client().historical({ service: "fraud" } as never))).toMatchObject({ status });
      expect([status, seen.length]).toEqual([status, calls]);
    }
  });

  it("is left when the caller gives up, while it waits too", async () => {
    answers = [busy({ "retry-after": "5" })];
    const gone = new Error("left");
    const controller = new AbortController();
    const request = { features: ["a:b"], entities: { id: "c" } as never };
    const work = failure(client().online(request, { signal: controller.signal }));
    setTimeout(() => controller.abort(gone), 200);
    expect(await work).toBe(gone);
    expect(seen).toHaveLength(1);
  });

  it("takes some of the events is sent the throttled ones again, and them alone", async () => {
    const results = (body: any, status: (id: string) => string) =>
      body.events.map(({ id }: any, index: number) => ({ index, event_id: id, status: status(id) }));
    answers = [
      (_, response, body) => {
        const states: Record<string, string> = { a: "queued", b: "throttled", c: "invalid" };
        reply(207, { results: results(body, (id) => states[id]) })(_, response, body);
      },
      (_, response, body) => {
        const throttled = { code: "throttled", detail: "d", results: results(body, () => "throttled") };
        reply(429, throttled, { "retry-after": "0" })(_, response, body);
      },
      (_, response, body) => reply(202, { results: results(body, () => "queued") })(_, response, body),
    ];
    const sent = await client().send("s" as never, [{ id: "a" }, { id: "b" }, { id: "c" }] as never);
    expect(seen.map(({ body }) => body.events.map(({ id }: any) => id))).toEqual([["a", "b", "c"], ["b"], ["b"]]);
    expect(sent).toEqual({
      ...{ queued: 2, invalid: 1, throttled: 0 },
      results: [
        { index: 0, event_id: "a", status: "queued" },
        { index: 1, event_id: "b", status: "queued" },
        { index: 2, event_id: "c", status: "invalid" },
      ],
    });
  });

  it("refuses each row of a push has answered; what it refuses as a whole is an error", async () => {
    const results = [{ index: 0, id: "c1", code: "wrong_type", field: "values[0]", detail: "no number" }];
    const told = { accepted: 0, refused: 1, visible_ms: null, results, request_id: "r" };
    const push = () => client().push({ features: ["a:b"], rows: [{ id: "c1", event_time_ms: 1, values: ["x"] }] });
    answers = [reply(400, { code: "wrong_type", detail: "no number", status: 400, title: "T", ...told })];
    expect(await push()).toEqual(told);
    answers = [reply(400, { code: "entities_differ", detail: "two" })];
    expect((await failure(push())).code).toBe("entities_differ");
  });

  it("is asked from a place that has what the web has, and nothing of Node's, is asked as from any other", async () => {
    // As an application would ship it.
    const { code } = transformSync(typescriptClient(plan), { loader: "ts", format: "iife", globalName: "freshet" });
    const web = {
      fetch,
      AbortController,
      AbortSignal,
      Headers,
      Response,
      URL,
      URLSearchParams,
      TextEncoder,
      DOMException,
    };
    const global = createContext({ ...web, setTimeout, clearTimeout, performance, crypto });
    answers = [busy({ "retry-after": "0" }), reply(200, ok)];
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const asked = `freshet.createClient(${JSON.stringify({ url, apiKey: "k" })}).online({ features: ["a:b"], entities: { id: "c" } })`;
    expect(await runInContext(`${code}; ${asked}`, global)).toMatchObject({ as_of_ms: 1 });
    expect(seen).toHaveLength(2);
    expect(runInContext("typeof process + typeof Buffer + typeof require", global)).toBe("undefinedundefinedundefined");
  });

  it("finds a request too large gets it in two, and those in two again", async () => {
    answers = [
      (_, response, body) => {
        const large = body.events.length > 3;
        const queued = body.events.map(({ id }: any, index: number) => ({ index, event_id: id, status: "queued" }));
        const answer = large ? reply(413, { code: "body_too_large", detail: "d" }) : reply(202, { results: queued });
        answer(_, response, body);
      },
    ];
    const { results } = await client().send(
      "s" as never,
      Array.from({ length: 10 }, (_, i) => ({ id: `e${i}` })) as never,
    );
    expect(seen.map(({ body }) => body.events.length)).toEqual([10, 5, 2, 3, 5, 2, 3]);
    expect(results.map(({ index, event_id }) => `${index} ${event_id}`)).toEqual(
      Array.from({ length: 10 }, (_, i) => `${i} e${i}`),
    );
  });

  it("finds one event too large by itself gets all the others, and that one is told of", async () => {
    answers = [
      (_, response, body) => {
        const large = body.events.some(({ id }: any) => id === "c");
        const queued = body.events.map(({ id }: any, index: number) => ({ index, event_id: id, status: "queued" }));
        const answer = large ? reply(413, { code: "body_too_large", detail: "d" }) : reply(202, { results: queued });
        answer(_, response, body);
      },
    ];
    const sent = await client().send("s" as never, [..."abcde"].map((id) => ({ id })) as never);
    expect(sent).toMatchObject({ queued: 4, invalid: 1 });
    expect(sent.results[2]).toEqual({
      index: 2,
      event_id: null,
      status: "invalid",
      code: "body_too_large",
      detail: "d",
    });
  });

  it("takes 500 events in a request is sent 1,001 in three", async () => {
    answers = [
      (_, response, body) =>
        reply(202, {
          results: body.events.map(({ id }: any, index: number) => ({ index, event_id: id, status: "queued" })),
        })(_, response, body),
    ];
    const events = Array.from({ length: 1_001 }, (_, i) => ({ id: `e${i}` }));
    const { results, queued } = await client().send("s" as never, events as never);
    expect(seen.map(({ body }) => body.events.length)).toEqual([500, 500, 1]);
    expect([queued, results.map(({ index }) => index)]).toEqual([1_001, events.map((_, i) => i)]);
  });
});
