import { once } from "node:events";
import { createServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { anyFreePort, choosePort, isPortFree, LOOPBACK } from "../../local/ports.ts";

const servers: ReturnType<typeof createServer>[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function occupy(port: number): Promise<void> {
  const server = createServer().listen(port, LOOPBACK);
  servers.push(server);
  await once(server, "listening");
}

describe("the port of a service", () => {
  it("is the same at every start of a home, and another in a second checkout", async () => {
    const first = await choosePort("/home/a/freshet", "emulator");
    expect(await choosePort("/home/a/freshet", "emulator")).toBe(first);
    expect(await choosePort("/home/b/freshet", "emulator")).not.toBe(first);
    expect(await choosePort("/home/a/freshet", "valkey")).not.toBe(first);
  });

  it("is the recorded one while that is free, and the next free one when it is not", async () => {
    const recorded = await anyFreePort();
    expect(await choosePort("/home/a", "serve", { recorded })).toBe(recorded);
    await occupy(recorded);
    expect(await isPortFree(recorded)).toBe(false);
    const other = await choosePort("/home/a", "serve", { recorded });
    expect(other).not.toBe(recorded);
    expect(await choosePort("/home/a", "serve", { taken: new Set([other]) })).not.toBe(other);
  });

  it("is refused with the repair when the one asked for is in use", async () => {
    const wanted = await anyFreePort();
    await occupy(wanted);
    await expect(choosePort("/home/a", "serve", { wanted })).rejects.toMatchObject({
      code: "port_taken",
      message: `port ${wanted} for serve is in use by another process`,
      repair: expect.stringContaining("--serve-port"),
    });
  });
});
