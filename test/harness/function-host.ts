/**
 * Hosts for a function's code, real or toy. A host is what stands between a mapping and a handler: it takes an event as
 * JSON and gives what the handler returned, or fails as Lambda would.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { bundleOptions } from "../../lib/constructs/function-code.ts";
import { type InvocationContext, lambdaContext } from "./lambda-context.ts";

export interface FunctionHost {
  /**
   * @param killAfterMs ends the function's process for real, that long after its handler began
   * @throws whatever the handler throws, or `Runtime exited` when its process ended
   */
  invoke(event: unknown, context: InvocationContext, killAfterMs?: number): Promise<unknown>;
  close(): Promise<void>;
}

export type Handler = (event: any, context: any) => Promise<unknown>;

/** Runs a handler in this process. Several invocations share its module, as they never do in Lambda; nothing may care. */
export function inProcessHost(handler: Handler): FunctionHost {
  return {
    async invoke(event, context, killAfterMs) {
      if (killAfterMs !== undefined) throw new Error("only a host with processes can kill one; use processHost");
      // Through JSON both ways, as Lambda does: nothing is shared between invocations.
      const answer = await handler(JSON.parse(JSON.stringify(event)), lambdaContext(context));
      return answer === undefined ? null : JSON.parse(JSON.stringify(answer));
    },
    async close() {},
  };
}

export interface FunctionBundle {
  readonly file: string;
  /** Imports the bundle into this process, with `env` set before its module runs. */
  load(env: Readonly<Record<string, string>>): Promise<Handler>;
  remove(): void;
}

/**
 * Bundles a function as it is deployed.
 * @param path of its source, as `functions/aggregate.ts`, from the checkout's root
 */
export async function bundleHandler(path: string): Promise<FunctionBundle> {
  const root = resolve(import.meta.dirname, "..", "..");
  const folder = mkdtempSync(join(tmpdir(), "freshet-function-"));
  const file = join(folder, "index.mjs");
  await build({
    ...bundleOptions,
    absWorkingDir: root,
    entryPoints: [join(root, path)],
    outfile: file,
    sourcemap: "inline",
    sourcesContent: false,
  });
  let copies = 0;
  return {
    file,
    async load(env) {
      Object.assign(process.env, env);
      // A query makes it another module, so that each load reads its environment anew.
      const module = (await import(`${pathToFileURL(file).href}?copy=${copies++}`)) as { handler: Handler };
      return module.handler;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** What a worker says: that its handler begins, and what came of it. */
export type WorkerMessage =
  | { readonly begun: true }
  | { readonly result: unknown }
  | { readonly error: { readonly name: string; readonly message: string } };

interface Worker {
  readonly child: ChildProcess;
  hear: (message: WorkerMessage) => void;
}

/**
 * Runs each invocation in a process of its own that no other uses meanwhile, as Lambda does. Idle processes are used
 * again; a killed one is gone with everything it had begun.
 * @param env the whole environment of the processes, besides PATH
 */
export function processHost(bundle: Pick<FunctionBundle, "file">, env: Readonly<Record<string, string>>): FunctionHost {
  const idle: Worker[] = [];
  const all = new Set<Worker>();

  function start(): Worker {
    const child = fork(join(import.meta.dirname, "function-worker.ts"), [bundle.file], {
      env: { PATH: process.env["PATH"] ?? "", ...env },
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      execArgv: ["--enable-source-maps"],
    });
    const worker: Worker = { child, hear: () => {} };
    all.add(worker);
    child.on("message", (message) => worker.hear(message as WorkerMessage));
    child.on("exit", (code, signal) => {
      all.delete(worker);
      const at = idle.indexOf(worker);
      if (at >= 0) idle.splice(at, 1);
      worker.hear({ error: { name: "Runtime.ExitError", message: `Runtime exited: ${signal ?? code}` } });
    });
    return worker;
  }

  return {
    async invoke(event, context, killAfterMs) {
      const worker = idle.pop() ?? start();
      let timer: NodeJS.Timeout | undefined;
      const answer = await new Promise<Exclude<WorkerMessage, { begun: true }>>((resolve) => {
        worker.hear = (message) => {
          if (!("begun" in message)) resolve(message);
          else if (killAfterMs !== undefined) timer = setTimeout(() => worker.child.kill("SIGKILL"), killAfterMs);
        };
        worker.child.send({ event, context });
      });
      clearTimeout(timer);
      // A handler that throws keeps its process, as in Lambda.
      if (all.has(worker)) idle.push(worker);
      if ("error" in answer) throw Object.assign(new Error(answer.error.message), { name: answer.error.name });
      return answer.result ?? null;
    },
    async close() {
      const exits = [...all].map(
        ({ child }) =>
          new Promise<void>((resolve) => {
            child.once("exit", () => resolve());
            child.kill("SIGKILL");
          }),
      );
      await Promise.all(exits);
    },
  };
}
