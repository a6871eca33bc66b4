/** A thread that loads the function once and answers one invocation after the other, as an environment of Lambda does. */
import { parentPort, workerData } from "node:worker_threads";

/** What a worker says of an invocation, or of its beginning. */
export type WorkerAnswer =
  | { readonly kind: "ready" }
  | { readonly kind: "result"; readonly result: unknown }
  | { readonly kind: "error"; readonly name: string; readonly message: string };

const say = (answer: WorkerAnswer): void => parentPort!.postMessage(answer);

const { handler } = (await import((workerData as { handler: string }).handler)) as {
  handler: (event: unknown, context: unknown) => Promise<unknown>;
};
parentPort!.on("message", async (event: unknown) => {
  try {
    say({ kind: "result", result: await handler(event, {}) });
  } catch (error) {
    const { name, message } = error instanceof Error ? error : { name: "Error", message: String(error) };
    say({ kind: "error", name, message });
  }
});
say({ kind: "ready" });
