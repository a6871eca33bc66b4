/**
 * Athena's API as the product uses it, over the emulator's: which knows neither UNLOAD nor Trino's own words, and so is given the query that an UNLOAD
 * names, in DuckDB's words; its answer is written to S3 as UNLOAD would, in Parquet, in a folder for each partition.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type AthenaClient,
  GetQueryExecutionCommand,
  GetQueryResultsCommand,
  StartQueryExecutionCommand,
  StopQueryExecutionCommand,
} from "@aws-sdk/client-athena";
import { ListObjectsV2Command, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { AthenaSource } from "../../adapters/offline/athena.ts";
import { DuckSession, sqlName } from "../../adapters/offline/duckdb.ts";
import { inDuckWords } from "../support/trino-words.ts";

interface Execution {
  readonly sql: string;
  begun: boolean;
  isStopped?: boolean;
  state: "RUNNING" | "SUCCEEDED" | "FAILED" | "CANCELLED";
  reason?: string;
}

export interface StandIn {
  readonly athena: Pick<AthenaClient, "send">;
  /** Statements, in the order in which they were started. */
  readonly started: string[];
  readonly stopped: string[];
  /** Whether a statement is to wait, until this says otherwise or it is stopped. */
  holds: (sql: string) => boolean;
  /** Whether a statement that waits is to fail. */
  fails: (sql: string) => boolean;
  close(): void;
}

const SCANNED_BYTES = 1_000;

export async function athenaStandIn(options: {
  readonly athena: AthenaClient;
  readonly s3: Pick<S3Client, "send">;
  readonly database: string;
  readonly output: string;
}): Promise<StandIn> {
  const folder = mkdtempSync(join(tmpdir(), "freshet-athena-stand-in-"));
  const session = await DuckSession.open({ folder });
  const emulated = new AthenaSource({ ...options, pollMs: 20 });
  const unloads = new Map<string, Execution>();
  /** One session writes one answer at a time. */
  let writing: Promise<unknown> = Promise.resolve();

  async function unload(sql: string): Promise<void> {
    const [, query, address, rest] = /^UNLOAD \(([\s\S]*)\) TO '([^']+)' WITH \((.*)\)$/.exec(sql)!;
    const [, bucket, prefix] = /^s3:\/\/([^/]+)\/(.*)$/.exec(address!)!;
    const there = await options.s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 1 }));
    if ((there.Contents ?? []).length > 0) throw new Error(`HIVE_PATH_ALREADY_EXISTS: ${address}`);
    const { id } = await emulated.run(inDuckWords(query!));
    writing = writing.then(async () => {
      const { ResultSet } = await options.athena.send(
        new GetQueryResultsCommand({ QueryExecutionId: id, MaxResults: 1 }),
      );
      const columns = ResultSet!.ResultSetMetadata!.ColumnInfo!.map(({ Name, Type }) => ({ name: Name!, type: Type! }));
      // Whole numbers are handed over as doubles.
      const handed = columns.map(({ name, type }) => `${sqlName(name)} ${/int/.test(type) ? "DOUBLE" : type}`);
      await session.run(`CREATE OR REPLACE TABLE answer (${handed})`);
      for await (const page of emulated.answer(id)) await session.append("answer", page.columns);
      const typed = columns.map(({ name, type }) => `CAST(${sqlName(name)} AS ${type}) AS ${sqlName(name)}`);
      const chunked = rest!.includes("partitioned_by = ARRAY['chunk']");
      const chunks = chunked ? await session.rows("SELECT DISTINCT chunk FROM answer") : [{ chunk: null }];
      for (const { chunk } of chunks) {
        const file = join(folder, "part.parquet");
        const within = chunked ? `WHERE chunk = ${chunk}` : "";
        const [{ rows }] = await session.rows(`SELECT count(*) AS rows FROM answer ${within}`);
        if (Number(rows) === 0) continue;
        const selected = typed.filter((_, i) => columns[i]!.name !== "chunk");
        await session.run(`COPY (SELECT ${selected} FROM answer ${within}) TO '${file}' (FORMAT parquet)`);
        const Key = `${prefix}${chunked ? `chunk=${chunk}/` : ""}${randomUUID()}`;
        await options.s3.send(new PutObjectCommand({ Bucket: bucket, Key, Body: readFileSync(file) }));
      }
    });
    await writing;
  }

  const standIn: StandIn = {
    started: [],
    stopped: [],
    holds: () => false,
    fails: () => false,
    close: () => {
      session.close();
      rmSync(folder, { recursive: true });
    },
    athena: {
      send: async (command: any): Promise<any> => {
        if (command instanceof StartQueryExecutionCommand) {
          const sql = command.input.QueryString!;
          standIn.started.push(sql);
          if (!sql.startsWith("UNLOAD")) {
            const QueryString = inDuckWords(sql);
            return options.athena.send(
              new StartQueryExecutionCommand({
                ...command.input,
                QueryString,
                ResultConfiguration: { OutputLocation: options.output },
              }),
            );
          }
          const id = randomUUID();
          unloads.set(id, { sql, begun: false, state: "RUNNING" });
          return { QueryExecutionId: id };
        }
        const id = command.input.QueryExecutionId as string;
        const own = unloads.get(id);
        if (own === undefined) return options.athena.send(command);
        if (command instanceof StopQueryExecutionCommand) {
          standIn.stopped.push(id);
          // One that has begun to write ends when it has written, as there.
          if (own.state === "RUNNING" && !own.begun) own.state = "CANCELLED";
          own.isStopped = true;
          return {};
        }
        if (!(command instanceof GetQueryExecutionCommand)) throw new Error("not of an UNLOAD");
        if (own.state === "RUNNING" && !own.begun && standIn.fails(own.sql)) {
          own.state = "FAILED";
          own.reason = "as asked";
        }
        if (own.state === "RUNNING" && !own.begun && !standIn.holds(own.sql)) {
          own.begun = true;
          unload(own.sql).then(
            () => {
              own.state = own.isStopped ? "CANCELLED" : "SUCCEEDED";
            },
            (error: Error) => {
              own.state = "FAILED";
              own.reason = error.message;
            },
          );
        }
        return {
          QueryExecution: {
            Status: { State: own.state, StateChangeReason: own.reason },
            Statistics: { DataScannedInBytes: SCANNED_BYTES },
          },
        };
      },
    } as Pick<AthenaClient, "send">,
  };
  return standIn;
}
