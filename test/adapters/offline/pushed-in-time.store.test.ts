/** Pushed values, online and offline: at every instant both say what the naive reader says of all that was visible then. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { featureAt } from "../../../adapters/offline/point-in-time.ts";
import { joinPushed, valuesSelect } from "../../../adapters/offline/pushed-in-time.ts";
import {
  encodeValues,
  packedLine,
  readValues,
  type ValuesRow,
  verifyValues,
} from "../../../adapters/pushed/values-format.ts";
import { packValues } from "../../../adapters/valkey/packed.ts";
import { pushRows } from "../../../adapters/valkey/push.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import type { FeatureValue, Scalar } from "../../../core/plan.ts";
import { type NaivePush, naiveRead } from "../../support/naive-pushed.ts";
import { spineTable } from "../../support/offline-tables.ts";
import { pushedPlan, riskValues, riskView, rowOf } from "../../support/pushed-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const HOUR = 3_600_000;
const folder = mkdtempSync(join(tmpdir(), "freshet-values-"));
const features = riskView.features.map(({ name }) => name);
let valkey: TestValkey;
let store: TestStore;
let reader: ReturnType<typeof createReader>;
let session: DuckSession;
let runs = 0;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(pushedPlan, valkey, Date.now() - HOUR);
  reader = createReader(pushedPlan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
  session = await DuckSession.open({ folder });
});
afterAll(async () => {
  session?.close();
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
  rmSync(folder, { recursive: true });
});

const archived = (tenant: string, id: string, push: NaivePush): ValuesRow => {
  const typed = Object.entries(push.values).map(([key, value]): [string, Scalar] => {
    const { dtype } = riskView.features.find(({ name }) => name === `risk:${key}`)!;
    return [`${key}:${dtype}`, value];
  });
  const { eventTimeMs, visibleMs } = push;
  return { tenant, entity: "shop", id, view: "risk", eventTimeMs, visibleMs, values: Object.fromEntries(typed) };
};

async function offline(rows: readonly { t: number; id: string | null }[], objects: readonly ValuesRow[][]) {
  const files = objects.map((each, i) => {
    const file = join(folder, `${runs}-${i}.ndjson.zst`);
    writeFileSync(file, encodeValues(each));
    expect(readValues(readFileSync(file))).toEqual(JSON.parse(JSON.stringify(each)));
    return file;
  });
  await session.run(
    spineTable(
      "spine",
      rows.map(({ t, id }) => ({ t, keys: { shop: id } })),
    ),
  );
  await session.run(`CREATE OR REPLACE VIEW pushed AS ${valuesSelect(files)}`);
  const times = rows.map(({ t }) => t);
  const columns = await joinPushed(session, {
    plan: pushedPlan,
    names: features,
    spine: { relation: "spine", rows: rows.length, fromMs: Math.min(...times), toMs: Math.max(...times) },
    mount: async () => "pushed",
  });
  return rows.map((_, row) => features.map((name) => featureAt(columns.find((each) => each.name === name)!, row)));
}

describe("pushed values as of an instant", () => {
  it("are what the store answered then, and what the naive reader says", async () => {
    const step = fc.array(
      fc.record({ id: fc.constantFrom("s1", "s'2"), ageMs: fc.nat(5).map((n) => n * HOUR), values: riskValues }),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 5 }), fc.boolean(), async (steps, repeat) => {
        const tenant = `t${runs++}`;
        const start = Date.now();
        const all: Record<string, NaivePush[]> = { s1: [], "s'2": [] };
        const objects: ValuesRow[][] = [];
        const online: { t: number; id: string; values: readonly FeatureValue[] }[] = [];
        for (const given of repeat ? [...steps, steps[0]] : steps) {
          const rows = given.map(({ id, ageMs, values }) => rowOf(riskView, tenant, id, start - ageMs, values));
          const visible = await pushRows(store.applier, rows);
          const object = given.map(({ id, ageMs, values }, i) => {
            const push = { eventTimeMs: start - ageMs, visibleMs: visible[i]!, values };
            all[id].push(push);
            return archived(tenant, id, push);
          });
          objects.push(object);
          // What becomes visible within this millisecond would be seen offline and has not been seen here.
          const t = Math.max(...(visible as number[]));
          while (Date.now() <= t) await new Promise((done) => setTimeout(done, 1));
          for (const id of Object.keys(all)) {
            const [{ values }] = await reader.read([{ tenant, entity: "shop", id, features }], t);
            online.push({ t, id, values });
          }
        }
        const last = online[online.length - 1].t;
        const spine = [
          ...online.map(({ t, id }) => ({ t, id })),
          ...[start - 1, last + 2 * HOUR, last + 30 * HOUR].flatMap((t) =>
            ["s1", "s'2", "unknown", null].map((id) => ({ t, id })),
          ),
        ];
        const answers = await offline(spine, objects.reverse());
        spine.forEach(({ t, id }, row) => {
          expect({ t, id, values: answers[row] }).toEqual({
            t,
            id,
            values: naiveRead(riskView, all[id ?? ""] ?? [], t),
          });
          if (row < online.length) expect(answers[row]).toEqual(online[row].values);
        });
      }),
      { numRuns: 60 },
    );
  });

  it("are none where nothing was ever pushed", async () => {
    const [values] = await offline([{ t: 5, id: "s1" }], []);
    expect(values).toEqual(naiveRead(riskView, [], 5));
  });
});

describe("the values' object format", () => {
  const row = archived("default", "s1", { eventTimeMs: 1, visibleMs: 2, values: { n: 1, rate: null, label: "ä" } });

  it("has golden bytes of version 1", () => {
    const golden = readFileSync(new URL("../../fixtures/golden/values-v1.ndjson.zst", import.meta.url));
    expect(readValues(golden)).toEqual([row, { ...row, id: "s2", values: {} }]);
  });

  it("has golden bytes of version 2", () => {
    const golden = readFileSync(new URL("../../fixtures/golden/values-v2.ndjson.zst", import.meta.url));
    const packed = packValues(
      [
        { id: 0, dtype: "double", value: 0.1 },
        { id: 3, dtype: "string", value: "ä" },
      ],
      1,
    );
    const { tenant, entity } = row;
    const rows = ["s1", 's"2'].map((id) => ({
      tenant,
      entity,
      id,
      view: "_p",
      eventTimeMs: 1,
      visibleMs: 2,
      reachMs: 5,
      packed,
    }));
    expect(readValues(golden)).toEqual(rows);
    expect(zstdDecompressSync(golden).toString()).toBe(rows.map(packedLine).join(""));
    expect(() => verifyValues(golden)).not.toThrow();
  });

  it("tells what is wrong with an object", () => {
    const bytes = encodeValues([row]);
    expect(() => readValues(bytes.subarray(0, bytes.length - 3))).toThrow("values object is not a whole zstd frame");
    expect(() => readValues(zstdCompressSync(Buffer.from('{"v":3}\n')))).toThrow(
      "row 1 of the values object has version 3, this reader knows 1 and 2",
    );
    expect(() => readValues(zstdCompressSync(Buffer.from('{"v":1}')))).toThrow("values object ends inside a row");
    expect(() => readValues(zstdCompressSync(Buffer.from("{\n")))).toThrow("row 1 of the values object is not JSON");
  });
});
