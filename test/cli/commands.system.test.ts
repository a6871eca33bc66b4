/** The commands against the deployed app, as a user types them. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { describe, expect, it } from "vitest";
import { ControlTable } from "../../adapters/control-table/control-table.ts";
import { ROOT } from "../../local/home.ts";
import { deployed, deployedClientConfig } from "../support/deployed.ts";
import { functionEnvironment, invoke, until } from "../system/app.ts";

const CLI = join(ROOT, "cli", "freshet.ts");

function freshet(...args: string[]): { code: number | null; out: string; err: string } {
  const result = spawnSync(process.execPath, [CLI, ...args], {
    encoding: "utf8",
    env: { ...process.env, FRESHET_HOME: deployed().home },
  });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

describe("commands of a running laptop", () => {
  it("demo streams events, imports weeks, trains on them, promotes the model and scores with it", () => {
    const { code, out, err } = freshet("demo");
    expect([code, code === 0 ? "" : err]).toEqual([0, ""]);
    expect(err).toMatch(/✓ wait for lag 0 .*[1-9][\d,]* events settled/);
    expect(out).toMatch(/transactions +[1-9]\d* +[1-9]\d* +\d+ +\d+ +\d+ +0 ms/);
    // Far from chance, and not perfect, as nobody could be: learnable, not trivial.
    const best = Number(/best possible score: ROC-AUC ([\d.]+)/.exec(out)?.[1]);
    const reached = Number(/roc_auc +([\d.]+)\n/.exec(out)?.[1]);
    expect(reached).toBeGreaterThan(0.75);
    expect(reached).toBeLessThan(0.99);
    expect(best).toBeLessThan(0.98);
    expect(out).toMatch(/report +\S+report\.html/);
    expect(out).toMatch(/fraud-lightgbm@\d+ is champion/);
    // What is shown of a card is from the weeks that were imported and the minutes that were streamed.
    expect(out).toMatch(/card_activity:tx_settled +\d+ +[1-9]\d*\n/);
    expect(out).toMatch(/score +[01]\.\d{4} \((approve|review|decline)\)\n +model +fraud-lightgbm@\d+, champion/);
    // Somebody of the crowd has clicked, and something fits them better than the rest.
    expect(out).toMatch(/What to show user_\d+, who has just clicked: the best of [1-9]\d* items/);
    expect(out).toMatch(/\n +item_\d+ +\w+ +0\.\d{4} +of the category that the user clicked last/);
    expect(out).toContain(`${deployed().serve.url}/docs`);
    expect(code).toBe(0);
  });

  it("status and health say that all is well", () => {
    expect(JSON.parse(freshet("status", "--json").out)).toMatchObject({
      running: true,
      api: deployed().api,
      serve: { url: deployed().serve.url, running: true },
      store: { state: "ok", sentence: null, repair: null },
      streams: { transactions: "freshet-local-transactions" },
    });
    expect(freshet("status", "--shell")).toEqual({
      ...{ code: 0, err: "" },
      out: `URL=${deployed().serve.url} KEY=${deployed().api.key}\n`,
    });
    const { code, out } = freshet("health", "--json");
    expect(JSON.parse(out)).toEqual(
      JSON.parse(out).map((check: object) => expect.objectContaining({ ...check, ok: true, detail: "" })),
    );
    expect(code).toBe(0);
  });

  it("inspect counts each stream and shows entities with their features", () => {
    const { code, out } = freshet("inspect", "--once", "--json");
    const { streams, entities } = JSON.parse(out);
    expect(streams.map((each: { stream: string }) => each.stream)).toEqual(Object.keys(deployed().streams));
    const [transactions] = streams;
    const { applied, duplicates, late, quarantined } = transactions;
    expect(transactions.in).toBe(applied + duplicates + late + quarantined);
    expect(transactions).toMatchObject({ waiting: 0, lagMs: 0, freshnessMs: expect.any(Number) });
    expect(entities.map((each: { entity: string }) => each.entity)).toEqual([
      "card",
      "device",
      "item",
      "merchant",
      "user",
    ]);
    expect(Object.keys(entities[0].features)).toContain("card_activity:tx_count_7d");
    expect(freshet("inspect", "--once").out).toMatch(/stream +events\/s +in +applied/);
    expect(code).toBe(0);
  });

  it("inspect and logs --follow end by Ctrl-C as by a wish", async () => {
    for (const args of [
      ["inspect", "--json"],
      ["logs", "aggregate", "--since", "1h", "--follow"],
      ["logs", "valkey", "-f"],
    ]) {
      const child = spawn(process.execPath, [CLI, ...args], {
        env: { ...process.env, FRESHET_HOME: deployed().home },
        stdio: ["ignore", "pipe", "pipe"],
      });
      let err = "";
      child.stderr.on("data", (chunk) => {
        err += chunk;
      });
      await once(child.stdout, "data");
      child.stdout.resume();
      child.kill("SIGINT");
      expect(await once(child, "close")).toEqual([0, null]);
      expect(err).toBe("");
    }
  });

  it("logs shows a function's lines, a process's file, and the names there are", () => {
    expect(freshet("logs", "aggregate", "--since", "1h").out).toMatch(/aggregate +\{.*"Applied"/);
    expect(freshet("logs", "valkey").out).toContain("Ready to accept connections");
    const { code, err } = freshet("logs", "nonsense");
    expect(err).toMatch(
      /there is no log of nonsense\n {2}repair: functions: .*aggregate, api, .*; processes: .*emulator/,
    );
    expect(code).toBe(2);
  });

  it("a reader that has seen enough ends the watchers, and is no failure", async () => {
    for (const args of [
      ["inspect", "--json"],
      ["logs", "--since", "1h", "--follow"],
      ["logs", "valkey"],
    ]) {
      const child = spawn(process.execPath, [CLI, ...args], {
        env: { ...process.env, FRESHET_HOME: deployed().home },
        stdio: ["ignore", "pipe", "pipe"],
      });
      let err = "";
      child.stderr.on("data", (chunk) => {
        err += chunk;
      });
      await once(child.stdout, "data");
      child.stdout.destroy();
      expect(await once(child, "close")).toEqual([0, null]);
      expect(err).toBe("");
    }
  });

  it("an interrupted demo leaves running what was up before it", async () => {
    const child = spawn(process.execPath, [CLI, "demo"], {
      env: { ...process.env, FRESHET_HOME: deployed().home },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let err = "";
    for await (const chunk of child.stderr) {
      err += chunk;
      if (err.includes("streaming payments") && !child.killed) child.kill("SIGINT");
    }
    if (child.exitCode === null) await once(child, "close");
    expect(err).toContain("what was running before is left running");
    expect(child.exitCode).toBe(130);
    expect(JSON.parse(freshet("status", "--json").out)).toMatchObject({ running: true });
  });

  it("generate refuses times that would be late or quarantined, before it sends anything", () => {
    const ahead = freshet("generate", "--from", "2100-01-01", "--to", "2100-01-02");
    expect(ahead).toMatchObject({
      code: 2,
      out: "",
      err: expect.stringMatching(/--to lies \d+d ahead: .*quarantined/),
    });
    const past = freshet("generate", "--from", "2020-01-01", "--to", "2020-01-02", "--sink", "http");
    expect(past).toMatchObject({ code: 2, out: "", err: expect.stringMatching(/all of the range .* late/) });
    expect(past.err).toContain("repair: use --sink file");
  });

  it("late events are counted until they are repaired", async () => {
    const pending = async () => JSON.parse(freshet("status", "--json").out).late.clicks.pending as number;
    const { FRESHET_CONTROL_TABLE: name } = await functionEnvironment("control");
    const dynamodb = new DynamoDBClient(deployedClientConfig());
    const table = new ControlTable({ table: name, dynamodb });
    // As a build does that works below the seal: repairs wait for it.
    const holder = "the test";
    const lease = { holder, expiresMs: Date.now() + 120_000 };
    expect(await table.takeLease("clicks", lease, Date.now())).toBe(true);
    try {
      const before = await pending();
      const args = ["--streams", "clicks", "--rate", "100", "--duration", "1s", "--late", "1", "--json"];
      const { acknowledged } = JSON.parse(freshet("generate", ...args).out);
      expect(acknowledged).toBeGreaterThan(20);
      // A click belongs to two entities, its user and its item.
      await expect.poll(pending, { timeout: 60_000 }).toBe(before + 2 * acknowledged);
      const { streams } = JSON.parse(freshet("inspect", "--once", "--json").out);
      const clicks = streams.find((each: { stream: string }) => each.stream === "clicks");
      expect(clicks.to_repair).toEqual({ pending: before + 2 * acknowledged, complete: true });
    } finally {
      await table.releaseLease("clicks", holder);
      dynamodb.destroy();
    }
    await until("the repair", async () => {
      await invoke("repair");
      return (await pending()) === 0;
    });
  });

  it("tenants gives a tenant limits of its own, which the servers take up, and takes them back", async () => {
    const made = JSON.parse(freshet("keys", "create", "--tenant", "limited", "--scopes", "read", "--json").out);
    const limits = ["tenants", "limits", "limited", "--class", "read"];
    const set = freshet(...limits, "--per-second", "0.01", "--burst", "2", "--json");
    const read = { class: "read", of: "tenant", per_second: 0.01, burst: 2, per_day: null };
    expect(JSON.parse(set.out).limits).toContainEqual(read);
    expect(JSON.parse(freshet("tenants", "list", "--json").out)).toContainEqual({
      tenant: "limited",
      keys: 1,
      own_limits: ["read"],
    });
    const statuses: number[] = [];
    for (let i = 0; i < 3; i++) {
      const headers = { "x-api-key": made.key };
      const reply = await fetch(`${deployed().serve.url}/v1/features/card/c1`, { headers });
      await reply.body?.cancel();
      statuses.push(reply.status);
    }
    expect(statuses).toEqual([200, 200, 429]);
    expect(freshet(...limits, "--reset").out).toContain("stage");
    const records = JSON.parse(freshet("audit", "--tenant", "limited", "--json").out);
    const targets = records.filter(({ action }: any) => action === "tenants.limits").map(({ target }: any) => target);
    expect(targets).toEqual(["limits of read: the stage's", "limits of read: 0.01 per second, burst 2"]);
    const shown = JSON.parse(freshet("tenants", "show", "limited", "--json").out);
    expect(shown.limits.map(({ of }: { of: string }) => of)).toEqual(["stage", "stage", "stage", "stage"]);
    expect(freshet("keys", "revoke", made.id).code).toBe(0);
  });

  it("keys makes a key that works, lists it without its secret, rotates and revokes it, with a record of each", async () => {
    const made = JSON.parse(freshet("keys", "create", "--tenant", "team-a", "--scopes", "read", "--json").out);
    expect(made).toMatchObject({ tenant: "team-a", scopes: ["read"], expires_at_ms: null });
    const answer = await fetch(`${deployed().serve.url}/v1/features/card/any`, { headers: { "x-api-key": made.key } });
    expect(answer.status).toBe(200);
    const list = freshet("keys", "list").out;
    expect(list).toMatch(new RegExp(`${made.id} +team-a +read `));
    expect(list).not.toContain(made.key.split("_")[2]);
    const next = JSON.parse(freshet("keys", "rotate", made.id, "--overlap", "1h", "--json").out);
    expect(next).toMatchObject({ tenant: "team-a", scopes: ["read"], rotated_from: made.id });
    expect(next.replaces.expires_at_ms - Date.now()).toBeLessThanOrEqual(3_600_000);
    expect(freshet("keys", "rotate", next.id)).toMatchObject({ code: 1, err: expect.stringContaining(made.id) });
    const given = freshet("keys", "revoke", made.key);
    expect(given).toMatchObject({ code: 1, err: expect.stringContaining("give the id of the key alone") });
    expect(given.err + given.out).not.toContain(made.key.split("_")[2]);
    expect(freshet("keys", "revoke", made.id).code).toBe(0);
    expect(freshet("keys", "revoke", made.id)).toMatchObject({
      code: 1,
      err: expect.stringContaining(`no key has the id "${made.id}"`),
    });
    const records = JSON.parse(freshet("audit", "--tenant", "team-a", "--json").out);
    expect(records.map(({ action, outcome }: any) => `${action} ${outcome}`)).toEqual([
      "keys.revoke done",
      "keys.rotate rotation_pending",
      "keys.rotate done",
      "keys.create done",
    ]);
    expect(records[3]).toMatchObject({ who: expect.stringContaining("(freshet)"), target: `key ${made.id} with read` });
    // What concerns no tenant, or a key that there is not, is the operator's own.
    const own = JSON.parse(freshet("audit", "--tenant", "*", "--json").out);
    expect(own.map(({ action, outcome }: any) => `${action} ${outcome}`)).toEqual(
      expect.arrayContaining(["keys.revoke key_unknown", "keys.list done"]),
    );
  });

  it("serve says which port is taken", () => {
    const { port } = new URL(deployed().serve.url);
    expect(freshet("serve", "--port", port)).toMatchObject({
      code: 1,
      err: expect.stringContaining(`port ${port} is in use`),
    });
  });
});
