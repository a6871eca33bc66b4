/** What an operator is told where a function that was called has failed: an answer of Lambda's Invoke, by a server on loopback. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { OperatedDeployment } from "../../cli/deployment.ts";
import { openFunctions } from "../../cli/invoke.ts";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import { codedFailure } from "../../functions/shared/named-failure.ts";

let server: Server;
/** What the runtime makes of an error that a handler throws. */
let payload: object = {};

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.writeHead(200, { "x-amz-function-error": "Unhandled", "content-type": "application/json" });
      response.end(JSON.stringify(payload));
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
});
afterAll(() => {
  server.close();
});

async function failure(stage: string): Promise<FreshetError> {
  const { port } = server.address() as AddressInfo;
  const clientConfig = {
    endpoint: `http://127.0.0.1:${port}`,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  };
  const functions = openFunctions({ clientConfig, stage } as unknown as OperatedDeployment);
  try {
    await functions.invoke("freshet-local-restore", {});
  } catch (error) {
    if (error instanceof FreshetError) return error;
    throw error;
  } finally {
    functions.close();
  }
  throw new Error("the call did not fail");
}

/** Lambda gives the error's name; an emulator one of its own. */
const runtimeError = (thrown: unknown, errorType = (thrown as Error).name): object => ({
  ...{ errorType, errorMessage: (thrown as Error).message, trace: ["…"] },
});

it.each([FreshetError, InfrastructureError])("%o of ours keeps its code, its words and its repair", async (Class) => {
  const repair = "run `freshet recover`";
  payload = runtimeError(codedFailure(new Class("store_live", "1024 buckets are served", { repair })));
  expect(await failure("local")).toMatchObject({
    code: "store_live",
    message: "1024 buckets are served; run `freshet recover`",
    repair: undefined,
  });
  payload = runtimeError(codedFailure(new Class("store_live", "1024 buckets are served")), "Runtime.HandlerError");
  expect(await failure("local")).toMatchObject({ message: "1024 buckets are served" });
});

it.each([
  [runtimeError(codedFailure(new TypeError("x is undefined"))), "x is undefined"],
  [{ errorType: "Runtime.ExitError", errorMessage: "exit status 1" }, "exit status 1"],
  [
    { errorType: "Sandbox.Timedout", errorMessage: "Task timed out after 900.00 seconds" },
    "Task timed out after 900.00",
  ],
  [{}, "no message"],
])("any other failure leads to the function's log: %j", async (given, words) => {
  payload = given;
  const { code, message, repair } = await failure("prod");
  expect([code, message]).toEqual([
    "function_failed",
    expect.stringContaining(`freshet-local-restore failed: ${words}`),
  ]);
  expect(repair).toBe("its log says more: `freshet logs restore --stage prod`; then run this again");
});
