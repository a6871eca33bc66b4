/** `/v1/keys` on a whole app, with keys and audit log in memory; and keys where no key belongs. */
import { beforeEach, describe, expect, it } from "vitest";
import * as schemas from "../../../../functions/api/administration/admin-schemas.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey, SCOPES } from "../../../../functions/api/keys/keys.ts";
import { problem } from "../../../../functions/api/openapi/schemas.ts";
import { testDependencies } from "../doubles.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = 1_800_000_000_000;
let ports: ReturnType<typeof testDependencies>;
let app: ReturnType<typeof createApp>;
let nowMs: number;
let admin: { key: string; id: string };

beforeEach(async () => {
  nowMs = START;
  ports = testDependencies();
  app = createApp({ ...ports.dependencies, clock: () => nowMs });
  admin = await make("team-a", SCOPES);
});

async function make(tenant: string, scopes: readonly string[], expiresAtMs?: number) {
  const { key, record } = await createKey(ports.keys, { tenant, scopes, nowMs, expiresAtMs });
  return { key, id: record.id };
}
async function call(method: string, path: string, body?: unknown, key = admin.key) {
  const reply = await app.request(path, {
    method,
    headers: { "x-api-key": key, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: reply.status, headers: reply.headers, body: (await reply.json()) as any };
}
const works = async (key: string) => (await call("GET", "/v1/features/card/c1", undefined, key)).status;
const refusal = async (reply: ReturnType<typeof call>) => {
  const { status, body } = await reply;
  expect(problem.parse(body).repair).toMatch(/\w/);
  return `${status} ${body.code}`;
};

describe("POST /v1/keys", () => {
  it("makes a key of the tenant, shown once", async () => {
    const asked = { scopes: ["read", "score"], name: "checkout", expires_in_days: 90 };
    const { status, headers, body } = await call("POST", "/v1/keys", asked);
    expect([status, headers.get("cache-control")]).toEqual([201, "no-store"]);
    const made = schemas.keyAnswer.parse(body);
    expect(made).toMatchObject({
      name: "checkout",
      scopes: ["read", "score"],
      live: true,
      expires_ms: START + 90 * DAY,
    });
    expect(await works(made.key)).toBe(200);
    expect((await ports.keys.get(made.id))?.tenant).toBe("team-a");
    const listed = schemas.keysAnswer.parse((await call("GET", "/v1/keys")).body).keys;
    expect(listed.map(({ id }) => id)).toEqual([admin.id, made.id]);
    expect(JSON.stringify(listed)).not.toContain(made.key.split("_")[2]);
    expect(ports.audit.records.map(({ action, target }) => [action, target])).toEqual([
      ["keys.create", `key ${made.id} with read,score`],
      ["keys.list", "/v1/keys"],
    ]);
  });

  it.each([
    [{}, "400 field_missing", "scopes"],
    [{ scopes: [] }, "400 wrong_type", "scopes"],
    [{ scopes: ["root"] }, "400 scope_unknown", "scopes"],
    [{ scopes: ["read"], name: 7 }, "400 wrong_type", "name"],
    [{ scopes: ["read"], name: "x".repeat(101) }, "400 key_name_invalid", "name"],
    [{ scopes: ["read"], expires_in_days: 0 }, "400 wrong_type", "expires_in_days"],
    [{ scopes: ["read"], expires_in_days: "90" }, "400 wrong_type", "expires_in_days"],
    [{ scopes: ["read"], tenant: "team-b" }, "400 field_unknown", "tenant"],
  ])("refuses %j: %s", async (body, expected, field) => {
    const reply = await call("POST", "/v1/keys", body);
    expect([`${reply.status} ${reply.body.code}`, reply.body.field]).toEqual([expected, field]);
    expect(schemas.keyRequest.safeParse(body).success && expected !== "403 scope_not_held").toBe(false);
  });

  it("gives no scope that the asking key lacks, unknown ones told apart only to who has all", async () => {
    const narrow = await make("team-a", ["admin", "read"]);
    expect(await refusal(call("POST", "/v1/keys", { scopes: ["read", "write"] }, narrow.key))).toBe(
      "403 scope_not_held",
    );
    expect((await call("POST", "/v1/keys", { scopes: ["read", "admin"] }, narrow.key)).status).toBe(201);
    expect(await refusal(call("POST", "/v1/keys", { scopes: ["read"] }, (await make("team-a", ["read"])).key))).toBe(
      "403 scope_missing",
    );
  });

  it("stops at 100 live keys; expired ones and other tenants' do not count", async () => {
    for (let i = 0; i < 98; i++) await make("team-a", ["read"]);
    await make("team-a", ["read"], START);
    await make("team-b", ["read"]);
    expect((await call("POST", "/v1/keys", { scopes: ["read"] })).status).toBe(201);
    expect(await refusal(call("POST", "/v1/keys", { scopes: ["read"] }))).toBe("409 too_many_keys");
  });
});

describe("POST /v1/keys/{id}/rotate", () => {
  it("makes a key that takes over; both work until the overlap is over, then the new one alone", async () => {
    const old = await make("team-a", ["read"], START + 10 * DAY);
    nowMs += DAY;
    const { status, body } = await call("POST", `/v1/keys/${old.id}/rotate`, { overlap_hours: 2 });
    expect(status).toBe(201);
    const made = schemas.rotatedAnswer.parse(body);
    // As long a life as the old one was given.
    expect(made).toMatchObject({ scopes: ["read"], expires_ms: nowMs + 10 * DAY, rotated_from: old.id });
    expect(made.replaces).toMatchObject({ id: old.id, expires_ms: nowMs + 2 * HOUR, rotated_to: made.id, live: true });
    expect([await works(old.key), await works(made.key)]).toEqual([200, 200]);
    nowMs += 2 * HOUR - 1;
    expect([await works(old.key), await works(made.key)]).toEqual([200, 200]);
    nowMs += 1;
    expect([await works(old.key), await works(made.key)]).toEqual([401, 200]);
  });

  it("overlaps for a day when not told; an overlap never lengthens a life; 0 ends the old key at once", async () => {
    const [plain, short, lost] = [await make("team-a", ["read"]), await make("team-a", ["read"], START + HOUR), admin];
    const first = await call("POST", `/v1/keys/${plain.id}/rotate`);
    expect([first.body.replaces.expires_ms, first.body.expires_ms]).toEqual([START + DAY, null]);
    const second = await call("POST", `/v1/keys/${short.id}/rotate`);
    expect(second.body.replaces.expires_ms).toBe(START + HOUR);
    expect(await works(lost.key)).toBe(200);
    const third = await call("POST", `/v1/keys/${lost.id}/rotate`, { overlap_hours: 0 });
    expect([third.status, await works(lost.key), await works(third.body.key)]).toEqual([201, 401, 200]);
  });

  it("lets two generations live, never three, whichever is asked for", async () => {
    const first = await make("team-a", ["read"]);
    const second = (await call("POST", `/v1/keys/${first.id}/rotate`, { overlap_hours: 1 })).body;
    expect(await refusal(call("POST", `/v1/keys/${first.id}/rotate`))).toBe("409 key_rotated");
    expect(await refusal(call("POST", `/v1/keys/${second.id}/rotate`))).toBe("409 rotation_pending");
    nowMs += HOUR;
    expect((await call("POST", `/v1/keys/${second.id}/rotate`)).status).toBe(201);
    expect(await refusal(call("POST", `/v1/keys/${first.id}/rotate`))).toBe("409 key_not_live");
  });

  it("of two at once, one wins", async () => {
    const old = await make("team-a", ["read"]);
    const replies = await Promise.all([1, 2, 3].map(() => call("POST", `/v1/keys/${old.id}/rotate`)));
    expect(replies.map(({ status }) => status).sort()).toEqual([201, 409, 409]);
    expect((await ports.keys.listOf("team-a")).filter(({ rotatedFrom }) => rotatedFrom === old.id)).toHaveLength(1);
  });

  it("hands out no more scopes than the asking key has: a rotated key's secret goes to who asks", async () => {
    const narrow = await make("team-a", ["admin"]);
    expect(await refusal(call("POST", `/v1/keys/${admin.id}/rotate`, {}, narrow.key))).toBe("403 scope_not_held");
  });

  it.each([
    [{ overlap_hours: -1 }, "400 wrong_type"],
    [{ overlap_hours: 721 }, "400 wrong_type"],
    [{ overlap: "1h" }, "400 field_unknown"],
  ])("refuses %j: %s", async (body, expected) => {
    expect(await refusal(call("POST", `/v1/keys/${admin.id}/rotate`, body))).toBe(expected);
  });
});

describe("DELETE /v1/keys/{id}", () => {
  it("ends a key at once here, and says how long others may take", async () => {
    const { key, id } = await make("team-a", ["read"]);
    expect(await works(key)).toBe(200);
    const { status, body } = await call("DELETE", `/v1/keys/${id}`);
    expect([status, schemas.revokedAnswer.parse(body).everywhere_within_ms]).toEqual([200, 30_000]);
    expect([await works(key), await refusal(call("DELETE", `/v1/keys/${id}`))]).toEqual([401, "404 key_unknown"]);
  });

  it.each(["x".repeat(3_000), "tenant:team-a", "%2e%2ekey", "ABCDEFGHIJKL"])("looks for no key %.20s", async (id) => {
    expect(await works(admin.key)).toBe(200);
    const { reads } = ports.keys;
    for (const [method, path] of [
      ["DELETE", `/v1/keys/${id}`],
      ["POST", `/v1/keys/${id}/rotate`],
    ]) {
      expect(await refusal(call(method, path))).toBe("404 key_unknown");
    }
    expect(ports.keys.reads).toBe(reads);
  });

  it("keeps the last key that can manage keys: those that end by themselves do not count", async () => {
    await make("team-b", SCOPES);
    await make("team-a", ["read", "write"]);
    await make("team-a", ["admin"], START);
    await make("team-a", ["admin"], START + 90_000);
    expect(await refusal(call("DELETE", `/v1/keys/${admin.id}`))).toBe("409 last_admin_key");
    const next = (await call("POST", `/v1/keys/${admin.id}/rotate`)).body;
    expect(await refusal(call("DELETE", `/v1/keys/${next.id}`))).toBe("409 last_admin_key");
    expect((await call("DELETE", `/v1/keys/${admin.id}`, undefined, next.key)).status).toBe(200);
    expect(await works(admin.key)).toBe(401);
  });

  it("is made while the audit log does not answer; a new key is not", async () => {
    const { id } = await make("team-a", ["read"]);
    ports.audit.broken = true;
    expect(await refusal(call("POST", "/v1/keys", { scopes: ["read"] }))).toBe("503 audit_unavailable");
    expect(await refusal(call("POST", `/v1/keys/${id}/rotate`))).toBe("503 audit_unavailable");
    expect((await call("DELETE", `/v1/keys/${id}`)).status).toBe(200);
    const unrecorded = ports.lines.filter(({ message }) => message === "audit record not written");
    expect(unrecorded.map(({ details }) => [details["action"], details["outcome"]])).toEqual([
      ["keys.revoke", "begun"],
      ["keys.revoke", "done"],
    ]);
  });

  it("another tenant's key is not there, for any call", async () => {
    const other = await make("team-b", ["read"]);
    for (const [method, path] of [
      ["DELETE", `/v1/keys/${other.id}`],
      ["POST", `/v1/keys/${other.id}/rotate`],
    ]) {
      const theirs = await call(method, path);
      const none = await call(method, path.replace(other.id, "z".repeat(12)));
      const told = ({ status, body }: typeof theirs, id: string) => [
        status,
        body.code,
        body.detail.replace(id, ""),
        body.repair,
      ];
      expect(told(theirs, other.id)).toEqual(told(none, "z".repeat(12)));
    }
    expect(await works(other.key)).toBe(200);
  });
});

describe("a table of keys that does not answer", () => {
  it("is keys_unavailable, told and logged", async () => {
    await works(admin.key);
    const error = Object.assign(new Error("socket hang up"), { $metadata: { attempts: 2 } });
    ports.keys.put = () => Promise.reject(error);
    expect(await refusal(call("POST", "/v1/keys", { scopes: ["read"] }))).toBe("503 keys_unavailable");
    expect(ports.lines.map(({ error }) => error)).toContain(error);
  });
});

describe("a key where none belongs", () => {
  const secretOf = (key: string) => key.split("_")[2];
  const encoded = (text: string) => [...text].map((letter) => `%${letter.charCodeAt(0).toString(16)}`).join("");

  it.each([
    ["the query", (key: string) => `/v1/features/card/c1?x-api-key=${key}`],
    ["a path that exists", (key: string) => `/v1/features/card/${key}`],
    ["a path that does not", (key: string) => `/v2/${key}`],
    ["an open page", (key: string) => `/health?key=${key}`],
    ["percent-encoding", (key: string) => `/v1/features/card/${encoded(key)}`],
    [
      "percent-encoding, twice, beside broken bytes",
      (key: string) => `/v1/features/card/%ff${encoded(key).replaceAll("%", "%25")}`,
    ],
    ["an old habit, cut off", (key: string) => `/v1/keys/${key.slice(0, 40)}`],
  ])("in the URL, in %s, is refused before anything is done or logged", async (_, path) => {
    const reply = await call("GET", path(admin.key));
    expect([reply.status, reply.body.code, reply.body.field]).toEqual([400, "api_key_in_url", "x-api-key"]);
    expect(reply.body.repair).toContain("rotate");
    const written = JSON.stringify([reply.body, [...reply.headers], ports.lines, ports.audit.records]);
    expect(written).not.toContain(secretOf(admin.key).slice(0, 8));
    expect(ports.audit.records).toEqual([]);
  });

  it("as a request id is no request id", async () => {
    const reply = await app.request("/health", { headers: { "x-request-id": admin.key } });
    expect(reply.headers.get("x-request-id")).not.toContain("fk_");
  });

  it("in a body is not quoted by the error about it", async () => {
    const reply = await call("POST", "/v1/features/online", { entities: { card_id: "c" }, service: admin.key });
    expect([reply.status, reply.body.detail]).toEqual([404, `no feature service is named "fk_${admin.id}_(secret)"`]);
  });
});
