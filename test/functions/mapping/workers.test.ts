/** Threads that run a function, with functions that end as theirs do. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { Workers } from "../../../functions/mapping/workers.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const TOY = `
let count = 0;
export async function handler(event) {
  count++;
  switch (event.do) {
    case "count": return { count };
    case "throw": throw new TypeError("this one is broken");
    case "exit": process.exit(3);
    case "crash": setTimeout(() => { throw new Error("behind its back"); }, 0); return new Promise(() => {});
    case "hang": return new Promise(() => {});
    case "spin": for (;;);
    case "print": console.log("a line\\nanother"); return null;
  }
}`;

let workers: Workers;
const lines: string[] = [];
afterEach(() => workers.close());

function start(source = TOY, timeoutMs = 60_000, size = 2): Workers {
  const handler = join(temporaryFolder(), "function.mjs");
  writeFileSync(handler, source);
  workers = new Workers({ handler, timeoutMs, size, onLine: (line) => lines.push(line) });
  return workers;
}

it("a thread answers one invocation after the other, and one that throws is kept", async () => {
  const { invoke } = bound(start());
  expect(await invoke("count")).toEqual({ count: 1 });
  await expect(invoke("throw")).rejects.toMatchObject({ name: "TypeError", message: "this one is broken" });
  expect(await invoke("count")).toEqual({ count: 3 });
});

it("no two invocations share a thread, and there are no more at once than there may be", async () => {
  const { invoke } = bound(start());
  const answers = [invoke("count"), invoke("count")];
  expect(workers.hasRoom).toBe(false);
  expect(await Promise.all(answers)).toEqual([{ count: 1 }, { count: 1 }]);
  expect(workers.hasRoom).toBe(true);
});

it.each(["hang", "spin"])("a thread that does not answer in time is ended, whatever it does: %s", async (what) => {
  const { invoke } = bound(start(TOY, 500));
  await expect(invoke(what)).rejects.toMatchObject({
    code: "invocation_timeout",
    message: "the function did not answer within 0.5 s and was ended",
  });
});

it.each(["exit", "crash"])(
  "a thread that ends by itself fails its invocation, and the next one has another: %s",
  async (what) => {
    const { invoke } = bound(start());
    await expect(invoke(what)).rejects.toMatchObject({ code: "worker_ended" });
    expect(await invoke("count")).toEqual({ count: 1 });
  },
);

it("a function that cannot be loaded is told at the start", async () => {
  await expect(start('throw new Error("variable X is not set");').warm()).rejects.toThrow("variable X is not set");
});

it("what the function prints comes line by line", async () => {
  await bound(start()).invoke("print");
  await expect.poll(() => lines.join(), { timeout: 30_000 }).toBe("a line,another");
});

const bound = (of: Workers) => ({ invoke: (what: string) => of.invoke({ do: what }) });
