// Loads the function that _HANDLER names and answers invocations on the socket whose descriptor it is given: see process.py.
import { existsSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const channel = new Socket({ fd: Number(process.env.FRESHET_EXECUTOR_CHANNEL) });
delete process.env.FRESHET_EXECUTOR_CHANNEL;
// Connections that the function keeps open would keep this process alive without anybody to serve.
channel.on("close", () => process.exit(0));
channel.on("error", () => process.exit(0));
const send = (message) => channel.write(`${JSON.stringify(message)}\n`);

const named = (name, message) => Object.assign(new Error(message), { name });

async function load(handler) {
  const dot = handler.lastIndexOf(".");
  const [module, name] = [handler.slice(0, dot), handler.slice(dot + 1)];
  const path = join(process.env.LAMBDA_TASK_ROOT, module);
  const file = [".mjs", ".js", ".cjs"].map((ending) => path + ending).find(existsSync);
  if (file === undefined) throw named("Runtime.ImportModuleError", `Error: Cannot find module '${module}'`);
  const exported = await import(pathToFileURL(file).href);
  const found = exported[name] ?? exported.default?.[name];
  if (typeof found !== "function") throw named("Runtime.HandlerNotFound", `${handler} is undefined or not exported`);
  return found;
}

// A function that does not load says so at each invocation, as in Lambda.
const loading = load(process.env._HANDLER);
await loading.catch(() => {});
send({ ready: true });

function failure(error) {
  const { name, message, stack } = error instanceof Error ? error : { name: typeof error, message: String(error) };
  return { errorType: name, errorMessage: message, trace: (stack ?? "").split("\n") };
}

async function answer({ id, arn, deadlineMs, event }) {
  const context = {
    awsRequestId: id,
    invokedFunctionArn: arn,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => deadlineMs - Date.now(),
  };
  try {
    const handler = await loading;
    const result = await handler(JSON.parse(event), context);
    return { ok: true, payload: JSON.stringify(result ?? null) };
  } catch (error) {
    console.error(error);
    return { ok: false, payload: JSON.stringify(failure(error)) };
  }
}

for await (const line of createInterface({ input: channel })) send(await answer(JSON.parse(line)));
