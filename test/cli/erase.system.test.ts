/** `freshet erase` and `/v1/erasures` on the deployed app: a card that has paid is forgotten, its merchant's numbers stay. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { ROOT } from "../../local/home.ts";
import { createTenant, deployed } from "../support/deployed.ts";

const CLI = join(ROOT, "cli", "freshet.ts");

function freshet(...args: string[]) {
  const env = { ...process.env, FRESHET_HOME: deployed().home };
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { encoding: "utf8", env });
  return { code: status, out: stdout, err: stderr };
}

async function eventually<T>(look: () => Promise<T>, holds: (found: T) => boolean): Promise<T> {
  for (const deadline = Date.now() + 120_000; ; await sleep(500)) {
    const found = await look();
    if (holds(found) || Date.now() > deadline) return found;
  }
}

it("a card is forgotten by the command and over HTTP, and its merchant keeps what it has", async () => {
  const { tenant, key } = await createTenant();
  const call = async (path: string, body?: unknown) => {
    const headers = { "x-api-key": key, "content-type": "application/json" };
    const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    return (await (await fetch(`${deployed().serve.url}${path}`, { headers, ...init })).json()) as any;
  };
  const pay = (card: string, id: string) =>
    call("/v1/events/transactions", {
      ...{ transaction_id: `${tenant}-${id}`, event_time: Date.now(), card_id: card, merchant_id: "m1", amount: 5 },
      ...{ currency: "EUR", country: "DE", merchant_category: "fuel", status: "approved" },
    });
  for (const [card, id] of [
    ["erase-me", "1"],
    ["erase-me", "2"],
    ["erase-me-too", "3"],
  ] as const) {
    expect(await pay(card, id)).toMatchObject({ queued: 1 });
  }
  const countOf = async (entity: string, id: string, feature: string) =>
    (await call(`/v1/features/${entity}/${id}`)).features[feature].value;
  const merchant = () => countOf("merchant", "m1", "merchant_activity:tx_count_1h");
  const card = (id: string) => countOf("card", id, "card_activity:tx_count_1h");
  expect(await eventually(merchant, (count) => count === 3)).toBe(3);
  expect(
    await eventually(
      () => card("erase-me"),
      (count) => count === 2,
    ),
  ).toBe(2);

  const erased = freshet("erase", "--entity", "card", "--id", "erase-me", "--tenant", tenant, "--json");
  expect([erased.code, erased.err]).toEqual([0, ""]);
  const { id } = JSON.parse(erased.out);
  expect(
    await eventually(
      () => card("erase-me"),
      (count) => count === null,
    ),
  ).toBeNull();
  expect(await merchant()).toBe(3);
  // Two whole looks are twenty minutes apart; the first one is over within seconds here.
  const first = await eventually(
    () => call(`/v1/erasures/${id}`),
    ({ state }) => state === "confirming",
  );
  expect(first).toMatchObject({ state: "confirming", error: null, block: false });
  expect(first.looks.find(({ step }: any) => step === "raw transactions")).toMatchObject({ rows: 2 });

  const asked = await call("/v1/erasures", { subjects: [{ entity: "card", id: "erase-me-too" }] });
  expect(asked).toMatchObject({ state: "running" });
  // Nobody calls the function: the table wakes it.
  expect(
    await eventually(
      () => card("erase-me-too"),
      (count) => count === null,
    ),
  ).toBeNull();
  expect(await merchant()).toBe(3);

  const shown = freshet("erase", "--status", id, "--tenant", tenant, "--entity", "card", "--id", "erase-me");
  expect([shown.code, shown.out]).toEqual([0, expect.stringContaining("taken out; looks again after")]);
  expect(shown.out).not.toContain("erase-me");
  expect(freshet("erase", "--list", "--tenant", tenant).out.match(/taken out|looking/g)).toHaveLength(2);
  const other = freshet("erase", "--status", id, "--tenant", tenant, "--entity", "card", "--id", "another");
  expect([other.code, other.err]).toEqual([1, expect.stringContaining("is not of 1 of the ids given")]);
  const none = freshet("erase", "--status", "none", "--tenant", tenant);
  expect([none.code, none.err]).toEqual([1, expect.stringContaining(`the tenant ${tenant} has no erasure none`)]);
});

it("a command that says not who is meant, or names what is not there, changes nothing", () => {
  for (const [args, exit, words] of [
    [[], 2, "who is meant is not said"],
    [["--entity", "card"], 2, "who is meant is not said"],
    [["--entity", "car", "--id", "x"], 1, "the plan has no entity car"],
    [["--entity", "card", "--id", "x".repeat(257)], 1, "an id has 1 to 256 characters"],
    [["--entity", "card", "--id", "x", "--tenant", "No"], 2, "a tenant is 1 to 64"],
  ] as const) {
    const { code, err } = freshet("erase", ...args);
    expect([code, err]).toEqual([exit, expect.stringContaining(words)]);
  }
});
