/**
 * Athena: statements to their end, small answers page by page, large ones by UNLOAD into a bucket. What Athena charges is told by what it
 * scanned.
 */
import {
  type AthenaClient,
  type ColumnInfo,
  GetQueryExecutionCommand,
  GetQueryResultsCommand,
  StartQueryExecutionCommand,
  StopQueryExecutionCommand,
} from "@aws-sdk/client-athena";
import { FreshetError } from "../../core/errors.ts";
import { durably } from "../aws/durable-call.ts";
import type { ColumnSource } from "./point-in-time.ts";

export interface AthenaOptions {
  readonly athena: Pick<AthenaClient, "send">;
  readonly database: string;
  readonly workGroup?: string;
  /** `s3://bucket/prefix/` of result files; null where the work group says. */
  readonly output: string | null;
  /** Between looks at a query that runs. @default 500 */
  readonly pollMs?: number;
  /** Called at each look; what it throws ends the waiting, and the query goes on. @default nothing */
  readonly onPoll?: () => void;
}

export interface EndedQuery {
  readonly id: string;
  /** What is charged for. */
  readonly scannedBytes: number;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export class AthenaSource implements ColumnSource {
  readonly #options: AthenaOptions;

  constructor(options: AthenaOptions) {
    this.#options = options;
  }

  /** Runs a statement to its end. @throws FreshetError `offline_query`; InfrastructureError `athena_unavailable` */
  async run(sql: string): Promise<EndedQuery> {
    return this.wait(await this.start(sql));
  }

  /** @returns the query's id */
  async start(sql: string): Promise<string> {
    const { database, workGroup, output } = this.#options;
    const { QueryExecutionId } = await this.#call("starting a query", () =>
      this.#options.athena.send(
        new StartQueryExecutionCommand({
          QueryString: sql,
          QueryExecutionContext: { Database: database },
          WorkGroup: workGroup,
          ResultConfiguration: output === null ? undefined : { OutputLocation: output },
        }),
      ),
    );
    return QueryExecutionId!;
  }

  /** @throws FreshetError `offline_query` where it failed or was stopped */
  async wait(id: string): Promise<EndedQuery> {
    for (;;) {
      const { QueryExecution } = await this.#call("asking for a query", () =>
        this.#options.athena.send(new GetQueryExecutionCommand({ QueryExecutionId: id })),
      );
      const { State, StateChangeReason } = QueryExecution?.Status ?? {};
      if (State === "SUCCEEDED") return { id, scannedBytes: QueryExecution?.Statistics?.DataScannedInBytes ?? 0 };
      if (State === "FAILED" || State === "CANCELLED") {
        throw new FreshetError(
          "offline_query",
          `Athena ended query ${id} as ${State}: ${StateChangeReason ?? "no reason"}`,
          {
            repair: /bytes scanned limit/i.test(StateChangeReason ?? "")
              ? "take a shorter range, or raise archive.scanLimitGb of the stage"
              : "the query's page in the console shows more",
          },
        );
      }
      this.#options.onPoll?.();
      await sleep(this.#options.pollMs ?? 500);
    }
  }

  /** Ends a query that nobody waits for any more; one that has ended stays as it is. */
  async stop(id: string): Promise<void> {
    await this.#call("stopping a query", () =>
      this.#options.athena.send(new StopQueryExecutionCommand({ QueryExecutionId: id })),
    );
  }

  /** @throws FreshetError as `run` */
  async *columns(
    sql: string,
  ): AsyncGenerator<{ readonly rows: number; readonly columns: readonly (readonly any[])[] }> {
    const { id } = await this.run(sql);
    yield* this.answer(id);
  }

  /** What a query that has ended answers. */
  async *answer(id: string): AsyncGenerator<{ readonly rows: number; readonly columns: readonly (readonly any[])[] }> {
    let token: string | undefined;
    let first = true;
    do {
      const page = await this.#call("reading a query's result", () =>
        this.#options.athena.send(
          new GetQueryResultsCommand({ QueryExecutionId: id, NextToken: token, MaxResults: 1000 }),
        ),
      );
      // The first row of the first page is the header.
      const rows = (page.ResultSet?.Rows ?? []).slice(first ? 1 : 0);
      const types = (page.ResultSet?.ResultSetMetadata?.ColumnInfo ?? []).map(decoderOf);
      first = false;
      token = page.NextToken;
      if (rows.length === 0) continue;
      yield {
        rows: rows.length,
        columns: types.map((decode, i) => rows.map(({ Data }) => decode(Data?.[i]?.VarCharValue))),
      };
    } while (token !== undefined);
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("athena_unavailable", what, call);
  }
}

/** Athena answers text; an absent one is null. */
function decoderOf({ Type }: ColumnInfo): (text: string | undefined) => unknown {
  if (/^(double|float|real|decimal|bigint|integer|int|smallint|tinyint)/i.test(Type ?? "")) {
    return (text) => (text === undefined ? null : Number(text));
  }
  if (/^bool/i.test(Type ?? "")) return (text) => (text === undefined ? null : text.toLowerCase() === "true");
  return (text) => text ?? null;
}
