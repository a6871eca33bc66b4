/** What was refused after an erasure's last look, with objects of many days and little time; on a real bucket, `erasure.store.test.ts`. */
import { GetObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { expect, it } from "vitest";
import type { Erasure } from "../../../../adapters/erasure/erasures.ts";
import { plan } from "../../../../features/plan.ts";
import { lookAtRefused } from "../../../../functions/shared/erasure/erasure-guard.ts";
import { newErasure } from "../../../../functions/shared/erasure/erasure-request.ts";

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
const START = Date.UTC(2026, 0, 5);

interface Kept {
  readonly key: string;
  readonly writtenMs: number;
  /** Ids that its records name. */
  readonly names: readonly string[];
}

const line = (tenant: string, id: string) => {
  const bytes = Buffer.from(JSON.stringify({ tenant, card_id: id })).toString("base64");
  return JSON.stringify({ v: 1, id: "1", stream: "transactions", arrival_ms: START - 1, bytes });
};

/** Erasures that were confirmed at the start, and a bucket. A read takes a minute of its clock. */
function worldOf(kept: Kept[], subjects: readonly (readonly [tenant: string, id: string])[]) {
  const records = new Map<string, Erasure>();
  for (const [i, [tenant, id]] of subjects.entries()) {
    const asked = { tenant, subjects: [{ entity: "card", id }], block: false, by: "an operator" };
    const look = { step: "online", round: 1, finishedMs: START, looked: 1, rewritten: 0, rows: 0, unreadable: [] };
    const guarding = { state: "guarding", looks: [look], confirmedMs: START } as const;
    const erasure = { ...newErasure(plan, asked, START, `e${i}`), ...guarding };
    records.set(`${tenant}/${id}`, erasure);
  }
  const world = {
    nowMs: START + DAY,
    read: [] as string[],
    fails: null as Error | null,
    failures: [] as string[],
    ofCard: (tenant: string, id: string) => records.get(`${tenant}/${id}`)!,
    look: (deadlineMs = Number.POSITIVE_INFINITY) => lookAtRefused(ports, deadlineMs),
  };
  const send = async (command: { readonly input: { Prefix?: string; Key?: string } }) => {
    if (world.fails !== null) throw world.fails;
    const { Prefix, Key } = command.input;
    if (!((command as object) instanceof GetObjectCommand)) {
      const found = kept.filter(({ key, writtenMs }) => key.startsWith(Prefix!) && writtenMs <= world.nowMs);
      return { Contents: found.map(({ key, writtenMs }) => ({ Key: key, LastModified: new Date(writtenMs) })) };
    }
    world.read.push(Key!);
    world.nowMs += MINUTE;
    const tenant = /of-(\w+)/.exec(Key!)![1]!;
    const body = kept.find(({ key }) => key === Key)!.names.map((id) => `${line(tenant, id)}\n`);
    return { Body: { transformToByteArray: async () => Buffer.from(body.join("")) } };
  };
  const ports = {
    erasures: {
      open: async () => [...records.values()],
      update: async (erasure: Erasure) => {
        const name = [...records].find(([, { id }]) => id === erasure.id)![0];
        const next = { ...erasure, version: erasure.version + 1 };
        records.set(name, next);
        return next;
      },
    },
    quarantine: { s3: { send } as unknown as Pick<S3Client, "send">, bucket: "quarantine" },
    clock: () => world.nowMs,
    onFailure: ({ tenant }: { tenant: string }) => void world.failures.push(tenant),
  };
  return world;
}

const object = (tenant: string, writtenMs: number, names: readonly string[], at = tenant): Kept => ({
  key: `quarantine/tenant=${at}/stream=transactions/dt=2026-01-05/${writtenMs}-of-${tenant}.ndjson`,
  ...{ writtenMs, names },
});

it("looks at what was set aside since, once for all of a tenant's, and no more than once a day", async () => {
  const old = object("a", START - DAY, ["c1"]);
  const kept = [old, object("a", START + MINUTE, ["c9"]), object("a", START + 5 * MINUTE, ["c2", "c9"])];
  const world = worldOf(kept, [
    ["a", "c1"],
    ["a", "c2"],
    ["b", "c2"],
  ]);
  expect(await world.look()).toBe(1);
  // What lay there before, the erasure itself has been through; another tenant's is another one's.
  expect(world.read.toSorted()).toEqual([kept[1]!.key, kept[2]!.key].toSorted());
  expect([world.ofCard("a", "c1").state, world.ofCard("a", "c2").state]).toEqual(["guarding", "confirming"]);
  expect(world.ofCard("b", "c2").state).toBe("guarding");
  world.nowMs = START + 2 * DAY - MINUTE;
  world.read.length = 0;
  expect([await world.look(), world.read]).toEqual([0, []]);
});

it("finds what no tenant answers for where it names the tenant, too", async () => {
  const kept = [
    object("a", START + MINUTE, ["c1"], "_unattributed"),
    object("b", START + MINUTE, ["c2"], "_unattributed"),
  ];
  const world = worldOf(kept, [
    ["a", "c1"],
    ["a", "c2"],
  ]);
  expect(await world.look()).toBe(1);
  expect([world.ofCard("a", "c1").state, world.ofCard("a", "c2").state]).toEqual(["confirming", "guarding"]);
});

it("goes on where its time was up, and reads nothing twice that is older than minutes", async () => {
  const hours = Array.from({ length: 23 }, (_, i) => object("a", START + (i + 1) * 60 * MINUTE, ["c9"]));
  const world = worldOf([...hours.slice(0, -1), object("a", START + 23 * 60 * MINUTE, ["c1"])], [["a", "c1"]]);
  let runs = 0;
  for (; world.ofCard("a", "c1").state === "guarding"; runs++) {
    expect(await world.look(world.nowMs + 1)).toBe(world.ofCard("a", "c1").state === "confirming" ? 1 : 0);
    // A day after what it has come to.
    world.nowMs += DAY;
    expect(runs).toBeLessThan(5);
  }
  expect(runs).toBe(3);
  expect(world.read).toHaveLength(23);
});

it("says of which it could not look, and does it at the next call", async () => {
  const world = worldOf(
    [object("a", START + MINUTE, ["c1"])],
    [
      ["a", "c1"],
      ["a", "c2"],
    ],
  );
  world.fails = Object.assign(new Error("denied"), { name: "AccessDenied" });
  expect([await world.look(), world.failures]).toEqual([0, ["a", "a"]]);
  world.fails = null;
  expect([await world.look(), world.failures]).toEqual([1, ["a", "a"]]);
});

it("does not look for those whose ids are forgotten, or that are under way", async () => {
  const world = worldOf([object("a", START + MINUTE, ["c1"])], [["a", "c1"]]);
  const record = world.ofCard("a", "c1") as { state: string; subjects: unknown };
  for (const change of [{ state: "done", subjects: null }, { state: "running" }, { state: "confirming" }]) {
    Object.assign(record, { subjects: [{ entity: "card", id: "c1" }] }, change);
    expect([await world.look(), world.read]).toEqual([0, []]);
  }
});
