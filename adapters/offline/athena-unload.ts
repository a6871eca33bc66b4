/** Queries of one job whose rows Athena writes below the job's folder, each once, however many invocations the job takes. */
import { randomUUID } from "node:crypto";
import { FreshetError } from "../../core/errors.ts";
import { within } from "../online-store/within.ts";
import type { AthenaSource } from "./athena.ts";
import { unloadSql } from "./athena-sql.ts";
import type { WorkFolder } from "./work-folder.ts";

/** What a finished query left. */
export interface Unloaded<Told> {
  /** Below the work folder; empty where nothing had to be read. */
  readonly folder: string;
  readonly queries: number;
  readonly scannedBytes: number;
  readonly told: Told;
}

/** A query's text, with what was found out on the way to it. */
export interface PlannedUnload<Told> {
  /** Null where there is nothing to read. */
  readonly sql: string | null;
  readonly chunked: boolean;
  /** Kept beside the rows. */
  readonly told: Told;
}

interface Begun<Told> extends Unloaded<Told> {
  /** Null where there is nothing to wait for. */
  readonly id: string | null;
}

/** How the names end of what tells of begun queries. */
const BEGUN = ".begun.json";

function unlessEnded(error: unknown): null {
  if ((error as { code?: string }).code === "offline_query") return null;
  throw error;
}

export class Unloads {
  readonly #athena: AthenaSource;
  readonly #work: WorkFolder;
  readonly #running = new Set<string>();
  #stopped = false;

  constructor(athena: AthenaSource, work: WorkFolder) {
    this.#athena = athena;
    this.#work = work;
  }

  /**
   * The rows of a query under a name of the job. What is done is not done again; a query that an earlier invocation has begun is waited for.
   * @param plan asked where nothing is begun
   * @throws FreshetError `offline_query`, and what `plan` and the source's `onPoll` throw
   */
  async once<Told>(name: string, plan: () => Promise<PlannedUnload<Told>>): Promise<Unloaded<Told>> {
    const done = await this.#work.read<Unloaded<Told>>(`${name}.json`);
    if (done !== null) return done;
    const before = await this.#work.read<Begun<Told>>(name + BEGUN);
    // One that failed or was stopped with the call that began it is begun again, once in each call.
    const again = before !== null && (await this.#wait(before).catch(unlessEnded));
    if (again) return this.#keep(name, again);
    return this.#keep(name, await this.#wait(await this.#begin(name, plan)));
  }

  /** Ends what nobody will wait for. Never throws: a query ends by itself, too. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.allSettled([...this.#running].map((id) => this.#athena.stop(id)));
  }

  async #wait<Told>({ id, ...begun }: Begun<Told>): Promise<Unloaded<Told>> {
    if (id === null) return begun;
    // What was on its way when all was stopped.
    if (this.#stopped) await this.#athena.stop(id);
    this.#running.add(id);
    const { scannedBytes } = await this.#athena.wait(id);
    this.#running.delete(id);
    return { ...begun, scannedBytes };
  }

  #keep<Told>(name: string, unloaded: Unloaded<Told>): Promise<Unloaded<Told>> {
    return this.#work.writeOnce(`${name}.json`, unloaded);
  }

  async #begin<Told>(name: string, plan: () => Promise<PlannedUnload<Told>>): Promise<Begun<Told>> {
    const { sql, chunked, told } = await plan();
    if (this.#stopped) throw new FreshetError("offline_interrupted", "the job's queries were ended");
    if (sql === null) return { id: null, folder: "", queries: 0, scannedBytes: 0, told };
    // Where two invocations begin the same, each has a folder of its own, and one of them counts.
    const folder = `${name}/${randomUUID()}/`;
    const id = await this.#athena.start(unloadSql(sql, this.#work.uri(folder), chunked));
    const begun: Begun<Told> = { id, folder, queries: 1, scannedBytes: 0, told };
    await this.#work.write(name + BEGUN, begun);
    return begun;
  }
}

/** A query that was stopped may still write for a moment: what it is given to end, before what it has written is removed. */
const ENDING_MS = 20_000;

/** Ends whatever queries a job's folder tells of, for a job that is given up, and waits until they have. One that has ended stays as it is. */
export async function stopBegun(athena: AthenaSource, folder: WorkFolder): Promise<void> {
  const names = (await folder.list("")).map(({ key }) => key).filter((key) => key.endsWith(BEGUN));
  const begun = await Promise.all(names.map((name) => folder.read<Begun<unknown>>(name)));
  const end = async (id: string) => {
    await athena.stop(id);
    await athena.wait(id);
  };
  const all = begun.map((query) => (query?.id ? within(ENDING_MS, end(query.id)) : null));
  await Promise.allSettled(all);
}
