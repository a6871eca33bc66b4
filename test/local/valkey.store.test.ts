import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "iovalkey";
import { afterEach, describe, expect, it } from "vitest";
import { startToken } from "../../local/process-table.ts";
import { pingValkey } from "../../local/valkey.ts";
import { startValkey, type TestValkey } from "../support/valkey.ts";

let server: TestValkey | undefined;
afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function withClient<T>(url: string, use: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url);
  try {
    return await use(client);
  } finally {
    client.disconnect();
  }
}

describe("the laptop's Valkey", () => {
  it("runs with the settings that the store's safety and memory rest on", async () => {
    server = await startValkey({ appendonly: true });
    const settings = await withClient(server.url, (client) => client.config("GET", "*"));
    const byName = Object.fromEntries(
      (settings as string[]).flatMap((name, i, all) => (i % 2 === 0 ? [[name, all[i + 1]]] : [])),
    );
    expect(byName).toMatchObject({
      bind: "127.0.0.1",
      "maxmemory-policy": "noeviction",
      appendonly: "yes",
      appendfsync: "everysec",
      save: "",
      "hash-max-listpack-value": "1100",
      "hash-max-listpack-entries": "512",
    });
  });

  it("has what was written after a SIGTERM and a start, and nothing after an empty start", async () => {
    server = await startValkey({ appendonly: true });
    const firstPid = server.pid;
    await withClient(server.url, (client) => client.set("k", "v"));
    await server.restart();
    expect(server.pid).not.toBe(firstPid);
    expect(await withClient(server.url, (client) => client.get("k"))).toBe("v");
    await server.restart({ empty: true });
    expect(await withClient(server.url, (client) => client.get("k"))).toBeNull();
  });

  it("is gone after a kill, with its folder after a stop", async () => {
    server = await startValkey();
    const { pid, port, dir } = server;
    await server.kill();
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect(await pingValkey(port)).toBe(false);
    await server.stop();
    expect(existsSync(dir)).toBe(false);
  });

  it("does not take a stranger on the port for itself, and shows the cause", async () => {
    server = await startValkey();
    const second = startValkey({ port: server.port });
    await expect(second).rejects.toThrow(`Valkey did not start on port ${server.port}:\n`);
    await expect(second).rejects.toThrow("bind: Address already in use");
  });

  it("ends with the test process that started it, even when that is killed", async () => {
    const support = join(import.meta.dirname, "..", "support", "valkey.ts");
    const script = `import { startValkey } from ${JSON.stringify(support)}; console.log((await startValkey()).pid); setInterval(() => {}, 1e6)`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const pid = Number(await new Promise((settle) => owner.stdout.once("data", settle)));
    expect(startToken(pid)).not.toBeNull();
    owner.kill("SIGKILL");
    await expect.poll(() => startToken(pid)).toBeNull();
  });
});
