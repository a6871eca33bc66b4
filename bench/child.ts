/** A process of ours that answers each message with one message, and ends with the channel. */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";

export class Child {
  private readonly child: ChildProcess;
  private waiting: { resolve: (result: any) => void; reject: (error: Error) => void } | null = null;

  /** @param file beside this one */
  constructor(file: string, args: readonly string[] = [], execArgv: readonly string[] = []) {
    this.child = fork(join(import.meta.dirname, file), args, { serialization: "advanced", execArgv: [...execArgv] });
    this.child.on("message", (message: { result: unknown } | { failed: string }) => {
      const waiting = this.waiting;
      this.waiting = null;
      if ("failed" in message) waiting?.reject(new Error(message.failed));
      else waiting?.resolve(message.result);
    });
    this.child.once("exit", (code, signal) => this.waiting?.reject(new Error(`${file} ended with ${signal ?? code}`)));
  }

  ask<T>(message: object): Promise<T> {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.child.send(message);
    });
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.disconnect();
    const force = setTimeout(() => this.child.kill("SIGKILL"), 5_000);
    await ended;
    clearTimeout(force);
  }
}
