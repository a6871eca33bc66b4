/** The process that `processHost` starts: loads one bundle and answers one invocation after the other. */
import { pathToFileURL } from "node:url";
import type { WorkerMessage } from "./function-host.ts";
import { type InvocationContext, lambdaContext } from "./lambda-context.ts";

const loaded = import(pathToFileURL(process.argv[2]!).href) as Promise<{
  handler: (event: unknown, context: unknown) => Promise<unknown>;
}>;

process.on("message", async ({ event, context }: { event: unknown; context: InvocationContext }) => {
  try {
    const { handler } = await loaded;
    process.send!({ begun: true } satisfies WorkerMessage);
    process.send!({ result: await handler(event, lambdaContext(context)) } satisfies WorkerMessage);
  } catch (error) {
    const { name, message } = error as Error;
    process.send!({ error: { name, message } } satisfies WorkerMessage);
  }
});
