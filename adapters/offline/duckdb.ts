/** DuckDB, embedded: one in-process engine for a command or an invocation, with limits, and errors under our codes. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type DuckDBConnection, DuckDBDataChunk, DuckDBInstance } from "@duckdb/node-api";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import { removeOfTheDead } from "./leftovers.ts";

export interface DuckOptions {
  /** The caller's state folder. What does not fit in memory is spilled below it and removed by `close`. */
  readonly folder: string;
  /** @default 2 */
  readonly threads?: number;
  /** Of DuckDB's buffers alone; the process needs some 300 MB beside it. @default 4096 */
  readonly memoryMb?: number;
}

/** A row as JavaScript has it: BIGINT and wider are bigint, DOUBLE is number, STRUCT object, LIST array, MAP `{key, value}[]`. */
export type DuckRow = Record<string, any>;

/** A literal. @param text any string; the result is safe inside SQL */
export const sqlText = (text: string): string => `'${text.replaceAll("'", "''")}'`;
/** A name of a column, table or struct field. */
export const sqlName = (name: string): string => `"${name.replaceAll('"', '""')}"`;

let opened = 0;

export class DuckSession {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #spill: string;
  /** Asked when a statement fails for data: tells which archive object is to blame, or null. See `archive-view.ts`. */
  readonly #blame = new Set<(message: string) => Promise<FreshetError | null>>();
  #closed = false;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection, spill: string) {
    this.#instance = instance;
    this.#connection = connection;
    this.#spill = spill;
  }

  /** An empty database in memory, in UTC wherever the machine is. It opens no network connection: extensions are neither fetched nor loaded. */
  static async open({ folder, threads = 2, memoryMb = 4096 }: DuckOptions): Promise<DuckSession> {
    removeOfTheDead(folder, /^duckdb-(\d+)-\d+$/);
    const spill = join(folder, `duckdb-${process.pid}-${opened++}`);
    mkdirSync(spill, { recursive: true });
    const instance = await DuckDBInstance.create(":memory:", {
      threads: String(threads),
      memory_limit: `${memoryMb}MiB`,
      temp_directory: spill,
      // Order is asked for where it matters; keeping it everywhere would hold whole results in memory.
      preserve_insertion_order: "false",
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
    });
    const connection = await instance.connect();
    // Otherwise the machine's zone decides what a timestamp without one means, and how one with a zone is cast.
    await connection.run("SET TimeZone = 'UTC'");
    return new DuckSession(instance, connection, spill);
  }

  /**
   * Runs statements for their effect.
   * @throws FreshetError `archive_corrupt` naming the object, `offline_memory`, `offline_disk`, `offline_interrupted`, `offline_query`
   */
  async run(sql: string): Promise<void> {
    await this.#mapped(() => this.#connection.run(sql));
  }

  /** All rows of a query: for results that fit in memory. @throws FreshetError as `run` */
  async rows<Row extends DuckRow = DuckRow>(sql: string): Promise<Row[]> {
    return this.#mapped(async () => (await this.#connection.runAndReadAll(sql)).getRowObjectsJS() as unknown as Row[]);
  }

  /** Rows of a query as they are made, a few thousand at a time. Nothing else may run meanwhile. @throws FreshetError as `run` */
  async *stream<Row extends DuckRow = DuckRow>(sql: string): AsyncGenerator<Row[]> {
    const result = await this.#mapped(() => this.#connection.stream(sql));
    const chunks = result.yieldRowObjectJs()[Symbol.asyncIterator]();
    for (;;) {
      const next = await this.#mapped(() => chunks.next());
      if (next.done) return;
      yield next.value as unknown as Row[];
    }
  }

  /** The same by columns, in the query's order: a third of the cost of row objects where there are many rows. */
  async *columns(
    sql: string,
  ): AsyncGenerator<{ readonly rows: number; readonly columns: readonly (readonly any[])[] }> {
    const result = await this.#mapped(() => this.#connection.stream(sql));
    for (;;) {
      const chunk = await this.#mapped(() => result.fetchChunk());
      if (chunk === null || chunk.rowCount === 0) return;
      yield { rows: chunk.rowCount, columns: chunk.getColumns() };
    }
  }

  /**
   * Adds rows to a table, given by columns of equal length; a chunk of DuckDB's holds 2,048. BIGINT takes bigint, DOUBLE number.
   * @throws FreshetError as `run`
   */
  async append(table: string, columns: readonly (readonly any[])[]): Promise<void> {
    await this.#mapped(async () => {
      const appender = await this.#connection.createAppender(table);
      const types = columns.map((_, i) => appender.columnType(i));
      for (let from = 0; from < columns[0]!.length; from += 2_048) {
        const part = columns.map((column) => column.slice(from, from + 2_048));
        const chunk = DuckDBDataChunk.create(types, part[0]!.length);
        chunk.setColumns(part);
        appender.appendDataChunk(chunk);
      }
      appender.closeSync();
    });
  }

  /** Runs a query for what it says when it fails; null when it does not. */
  async firstError(sql: string): Promise<string | null> {
    try {
      await this.#connection.run(sql);
      return null;
    } catch (error) {
      return error instanceof Error ? error.message.split("\n", 1)[0]! : String(error);
    }
  }

  /** Share of the running statement, 0 to 1, as far as DuckDB can tell; null when it cannot. */
  progress(): number | null {
    const { percentage } = this.#connection.progress;
    return percentage < 0 ? null : Math.min(1, percentage / 100);
  }

  /** Ends the running statement with `offline_interrupted`. */
  interrupt(): void {
    this.#connection.interrupt();
  }

  /** @param find given DuckDB's message; answers the error to throw instead, or null. @returns what ends it */
  onDataError(find: (message: string) => Promise<FreshetError | null>): () => void {
    this.#blame.add(find);
    return () => this.#blame.delete(find);
  }

  /** Frees memory and what was spilled. Calling it again does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.closeSync();
    this.#instance.closeSync();
    rmSync(this.#spill, { recursive: true, force: true });
  }

  async #mapped<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof FreshetError) throw cause;
      const message = cause instanceof Error ? cause.message : String(cause);
      throw await this.#explain(message, cause);
    }
  }

  async #explain(message: string, cause: unknown): Promise<FreshetError> {
    if (/^Out of Memory Error|failed to (pin|allocate)/i.test(message)) {
      return new InfrastructureError("offline_memory", "the query needs more memory than DuckDB was given", {
        repair: "raise the memory limit, or take a shorter time range",
        cause,
      });
    }
    if (/No space left|max_temp_directory_size/i.test(message)) {
      return new InfrastructureError("offline_disk", "the disk is full: the query spills what does not fit in memory", {
        repair: "free space below the state folder, or take a shorter time range",
        cause,
      });
    }
    if (/^INTERRUPT/i.test(message)) return new FreshetError("offline_interrupted", "the query was ended", { cause });
    // Mistakes in SQL are ours or the user's; only what is met while reading can be an object's fault.
    if (!/^(Parser|Binder|Catalog) Error/.test(message)) {
      for (const find of this.#blame) {
        const found = await find(message);
        if (found !== null) return found;
      }
    }
    return new FreshetError("offline_query", `DuckDB refused a query: ${message.split("\n", 1)[0]}`, { cause });
  }
}
