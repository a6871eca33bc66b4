import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundleHandler, type FunctionBundle, inProcessHost, processHost } from "./function-host.ts";

const context = { awsRequestId: "r-1", functionName: "toy", invokedFunctionArn: "arn:toy", timeoutMs: 60_000 };

let bundle: FunctionBundle;
let folder: string;

beforeAll(async () => {
  bundle = await bundleHandler("test/harness/fixtures/toy-function.ts");
  folder = mkdtempSync(join(tmpdir(), "freshet-host-"));
});
afterAll(() => {
  bundle.remove();
  rmSync(folder, { recursive: true, force: true });
});

describe("a bundle in this process", () => {
  test("is loaded with its environment, and anew for another one", async () => {
    const first = inProcessHost(await bundle.load({ TOY_VALUE: "one" }));
    const second = inProcessHost(await bundle.load({ TOY_VALUE: "two" }));
    expect(await first.invoke({}, context)).toMatchObject({ loadedWith: "one", calls: 1, pid: process.pid });
    expect(await first.invoke({}, context)).toMatchObject({ loadedWith: "one", calls: 2 });
    expect(await second.invoke({}, context)).toMatchObject({ loadedWith: "two", calls: 1 });
  });

  test("gets the context, and an event of its own", async () => {
    const event = { touch: "mine" };
    const answer = await inProcessHost(await bundle.load({})).invoke(event, context);
    expect(answer).toMatchObject({ requestId: "r-1", hasTime: true });
    expect(event.touch).toBe("mine");
  });

  test("fails as its handler fails, and cannot be killed", async () => {
    const host = inProcessHost(await bundle.load({}));
    await expect(host.invoke({ fail: "too far" }, context)).rejects.toThrow("too far");
    await expect(host.invoke({}, context, 1)).rejects.toThrow(
      "only a host with processes can kill one; use processHost",
    );
  });
});

describe("a bundle in processes of its own", () => {
  test("two invocations at once never share a process; one after the other they do", async () => {
    const host = processHost(bundle, { TOY_VALUE: "there" });
    try {
      const [a, b] = (await Promise.all([
        host.invoke({ wait: 50 }, context),
        host.invoke({ wait: 50 }, context),
      ])) as any[];
      expect(new Set([a.pid, b.pid, process.pid]).size).toBe(3);
      expect(a.loadedWith).toBe("there");
      const c = (await host.invoke({}, context)) as any;
      expect([a.pid, b.pid]).toContain(c.pid);
      expect(c.calls).toBe(2);
    } finally {
      await host.close();
    }
  });

  test("fails as its handler fails, and goes on in the same process", async () => {
    const host = processHost(bundle, {});
    try {
      const { pid } = (await host.invoke({}, context)) as any;
      await expect(host.invoke({ fail: "too far" }, context)).rejects.toMatchObject({
        name: "RangeError",
        message: "too far",
      });
      expect(await host.invoke({}, context)).toMatchObject({ pid, calls: 2 });
    } finally {
      await host.close();
    }
  });

  test("killed in the middle, it has begun and not done; the next invocation gets a new process", async () => {
    const mark = join(folder, "mark");
    const host = processHost(bundle, {});
    try {
      const before = (await host.invoke({}, context)) as any;
      await expect(host.invoke({ mark, wait: 60_000 }, context, 300)).rejects.toMatchObject({
        name: "Runtime.ExitError",
        message: "Runtime exited: SIGKILL",
      });
      expect(readFileSync(mark, "utf8")).toBe("begun\n");
      const after = (await host.invoke({}, context)) as any;
      expect(after.pid).not.toBe(before.pid);
    } finally {
      await host.close();
    }
  });
});
