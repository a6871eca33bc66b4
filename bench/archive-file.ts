/** An archive of benchmarks: files as compaction writes them. */
import { archiveColumns } from "../adapters/offline/archive-view.ts";
import { DuckSession, sqlText } from "../adapters/offline/duckdb.ts";
import type { Plan } from "../core/plan.ts";
import { POPULATION } from "./workload.ts";

/** One file as compaction writes them, in the workload's proportions; made by DuckDB, since rows made here would take minutes. */
export async function writeArchiveFile(
  plan: Plan,
  folder: string,
  file: string,
  events: number,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): Promise<void> {
  const [stream] = plan.streams;
  const share = (n: number) => `((hash(i * 8 + ${n}) % 1000000) / 1e6)`;
  const one = (kind: string, count: number, n: number, skew = 1) =>
    `'${kind}_' || CAST(floor(pow(${share(n)}, ${skew}) * ${count}) AS INTEGER)`;
  const values: Readonly<Record<string, string>> = {
    tenant: "'default'",
    transaction_id: "'tx-' || i",
    event_time: "t",
    card_id: one("card", POPULATION.cards, 1),
    user_id: one("user", POPULATION.users, 2),
    merchant_id: one("merchant", POPULATION.merchants, 3, 3),
    device_id: one("device", POPULATION.devices, 4),
    amount: `round(${share(5)} * 20000) / 100`,
    status: "'approved'",
  };
  const fields = Object.keys(stream.fields).map((name) => `"${name}" := ${values[name] ?? "NULL"}`);
  const fates = plan.groups.map(({ entity }) => {
    const { joinKey } = plan.entities.find(({ name }) => name === entity)!;
    return `struct_pack(entity := '${entity}', id := ${values[joinKey]}, fate := 'applied', visible_ms := t + 900)`;
  });
  const columns: Readonly<Record<string, string>> = {
    event_id: "'tx-' || i",
    event_time_ms: "t",
    identity: "substr(sha256('tx-' || i), 1, 16)",
    arrival_ms: "t + 500",
    shard: "'shardId-000000000000'",
    sequence: "CAST(10000000 + i AS VARCHAR)",
    sub_sequence: "0",
    reason: "NULL",
    fields: `struct_pack(${fields})`,
    fates: `[${fates}]`,
  };
  const session = await DuckSession.open({ folder });
  const select = archiveColumns(stream).map(([name, type]) => `CAST(${columns[name]} AS ${type}) AS ${name}`);
  await session.run(
    `COPY (SELECT ${select} FROM (SELECT i, CAST(${fromMs} + i * ${(toMs - fromMs) / events} AS BIGINT) AS t
     FROM range(${events}) AS r(i))) TO ${sqlText(file)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720)`,
  );
  session.close();
}
