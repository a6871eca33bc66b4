/** The `freshet` command in this process: its words, its output and its exit code, without the half second that a process takes. */
import { vi } from "vitest";
import { run } from "../../cli/program.ts";

export interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** One at a time: output and exit code are the process's own. @param home state of the runtime that it is for */
export async function freshetHere(args: readonly string[], home: string): Promise<CommandResult> {
  const written = { out: "", err: "" };
  const taking = (to: "out" | "err") => (chunk: string | Uint8Array) => {
    written[to] += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
    return true;
  };
  const before = process.exitCode;
  const spies = [
    vi.spyOn(process.stdout, "write").mockImplementation(taking("out")),
    vi.spyOn(process.stderr, "write").mockImplementation(taking("err")),
  ];
  vi.stubEnv("FRESHET_HOME", home);
  process.exitCode = undefined;
  try {
    await run(args);
    return { code: Number(process.exitCode ?? 0), ...written };
  } finally {
    process.exitCode = before;
    vi.unstubAllEnvs();
    for (const spy of spies) spy.mockRestore();
  }
}
