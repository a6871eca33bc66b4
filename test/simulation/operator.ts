/** What `freshet recover` and `freshet restore` do (cli/recovery.ts), in the run's world: the same steps in the same order, each of which can fail. */
import type { ControlReport } from "../../functions/shared/control-loop.ts";
import type { RestoreReport, RestoreRequest } from "../../functions/shared/snapshot/restore-snapshot.ts";
import type { Broker } from "./broker.ts";
import type { Functions } from "./functions.ts";
import type { Keepers } from "./keepers.ts";
import { type Deployed, STREAM, TIMEOUT_MS } from "./plans.ts";
import { Actor, type Scheduler } from "./scheduler.ts";

const AHEAD_MS = 60_000;
/** Records of one invocation that replays. */
const CHUNK = 400;
const ROUNDS = 3;
/** Of one call of a function that goes on where it was. */
const BUDGET_MS = 5_000;
const LONG_MS = 60_000;
const WAIT_MS = 2_000;

/** Runs an invocation with a life of its own; rejects when it throws, is killed, or has had its time. */
export function invocation<T>(
  scheduler: Scheduler,
  name: string,
  work: (actor: Actor) => Promise<T>,
  livesMs = TIMEOUT_MS,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const actor = new Actor(name);
    actor.onDeath = () => reject(new Error(`${name} was killed`));
    scheduler.after(livesMs, () => actor.kill(scheduler.nowMs));
    work(actor).then(resolve, reject);
  });
}

export interface Operated {
  readonly scheduler: Scheduler;
  readonly functions: Functions;
  readonly keepers: Keepers;
  readonly broker: Broker;
  /** What control runs, and all functions but the aggregate function. */
  readonly controlled: () => Deployed;
  readonly deployed: () => Deployed;
}

type State = ControlReport["state"];

/** @param snapshot which is chosen where the store is lost: `none`, or one of the rounds that are there, the newest first */
export function recover(
  of: Operated,
  name: string,
  snapshot: "none" | ((rounds: readonly string[]) => string),
): Promise<void> {
  const operator = new Operator(of, name);
  return operator.untilWhole(() => operator.recover(snapshot));
}

/** @param request of which round `snapshot` chooses */
export function restore(
  of: Operated,
  name: string,
  request: Omit<RestoreRequest, "snapshot">,
  snapshot: (rounds: readonly string[]) => string,
): Promise<void> {
  const operator = new Operator(of, name);
  let loaded = false;
  return operator.untilWhole(async () => {
    if (loaded) return operator.recover("none");
    const rounds = await operator.rounds();
    if (rounds.length === 0) return "ok";
    const report = await operator.load({ ...request, snapshot: snapshot(rounds) });
    loaded = true;
    return operator.replayAndOpen(true, report!.startedMs);
  });
}

class Operator {
  private readonly of: Operated;
  private readonly name: string;
  private calls = 0;

  constructor(of: Operated, name: string) {
    this.of = of;
    this.name = name;
  }

  /** Again where another primary came to answer meanwhile. */
  async untilWhole(once: () => Promise<State>): Promise<void> {
    for (let round = 1; round <= ROUNDS; round++) {
      const state = await once();
      if (state !== "failover" && state !== "restoring") return;
    }
  }

  async recover(snapshot: Parameters<typeof recover>[2]): Promise<State> {
    const { functions, controlled, scheduler } = this.of;
    const found = await this.look();
    scheduler.note(`${this.name} found ${JSON.stringify(found)}`);
    const resume = () => this.load({ snapshot: "latest", resume: true });
    if (found.state === "ok") {
      const opened = await resume();
      if (opened?.state === "loaded") return this.replayAndOpen(true, opened.startedMs);
      await this.repeatRepairs();
      if (opened?.state === "opened") await this.finish();
      await this.pushAgain();
    }
    if (found.state === "ok" || found.state === "new") return found.state;
    if (found.state === "failover") return this.replayAndOpen(true);
    const resumed = await resume();
    if (resumed !== null) return this.replayAndOpen(true, resumed.startedMs);
    if (found.state === "restoring") return this.replayAndOpen(false);
    const rounds = snapshot === "none" ? [] : await this.rounds();
    if (rounds.length > 0) {
      const report = await this.load({ snapshot: (snapshot as (of: readonly string[]) => string)(rounds) });
      return this.replayAndOpen(true, report!.startedMs);
    }
    scheduler.dice.happened("restored from the broker alone");
    await this.call("restore", (actor) => functions.restore(controlled(), actor));
    return this.replayAndOpen(false);
  }

  /** Rounds that can be read, the newest first. */
  async rounds(): Promise<readonly string[]> {
    const found = await this.call("rounds", (actor) => this.of.keepers.rounds(actor));
    return found.filter(({ damage }) => damage === null).map(({ round }) => round);
  }

  /** @returns null when it was to go on with one, and there is none */
  async load(request: RestoreRequest): Promise<RestoreReport | null> {
    const { keepers, controlled, scheduler } = this.of;
    for (let first = true; ; first = false) {
      const asked = { ...request, restart: first ? request.restart : undefined };
      const work = (actor: Actor) => keepers.restore(controlled(), actor, asked, BUDGET_MS);
      const report = await this.call("load", work, LONG_MS);
      scheduler.note(`${this.name} ${JSON.stringify(report)}`);
      if (report.state === "none") return null;
      if (report.state === "opened") return report;
      if (report.state === "loaded") {
        scheduler.dice.happened(request.resume ? "restore gone on with" : "restored from a snapshot");
        if (Object.keys(report.older).length > 0) scheduler.dice.happened("restored from an older round");
        return report;
      }
      if (report.state === "waiting") await scheduler.sleep(WAIT_MS);
    }
  }

  /** @param sinceSeal replays what arrived since the seal, else all @param startedMs of the snapshot that was restored */
  async replayAndOpen(sinceSeal: boolean, startedMs?: number): Promise<State> {
    const { functions, keepers, broker, controlled, deployed, scheduler } = this.of;
    const { seals, runs } = await this.look();
    await this.call("replant", (actor) => keepers.erase(controlled(), actor, BUDGET_MS, true), LONG_MS);
    const sealMs = seals[STREAM];
    if (!sinceSeal || sealMs !== undefined) {
      const fromMs = sinceSeal ? sealMs - AHEAD_MS : 0;
      for (const { id, records } of broker.shards) {
        const wanted = records.filter(({ arrivalMs }) => arrivalMs >= fromMs);
        for (let from = 0; from < wanted.length; from += CHUNK) {
          const part = wanted.slice(from, from + CHUNK);
          scheduler.dice.happened("records replayed", part.length);
          await this.call(`${id} ${from}`, (actor) => functions.replay(deployed(), actor, id, part));
        }
      }
    }
    const since = startedMs !== undefined ? startedMs - AHEAD_MS : sinceSeal ? null : 0;
    scheduler.note(`${this.name} accepts`);
    await this.call("accept", (actor) => functions.accept(controlled(), actor, runs, since));
    const { state } = await this.look();
    if (state === "ok") {
      await this.repeatRepairs();
      if (startedMs !== undefined) await this.finish();
      await this.pushAgain();
    }
    return state;
  }

  private look(): Promise<ControlReport> {
    const { functions, controlled } = this.of;
    return this.call("look", (actor) => functions.control(controlled(), actor, null));
  }

  private finish(): Promise<null> {
    return this.call("finish", (actor) => this.of.keepers.finish(actor));
  }

  /** What the store lacks of them no replay brings: they were below the seal. */
  private async repeatRepairs(): Promise<void> {
    const { functions, controlled, scheduler } = this.of;
    for (;;) {
      const { waiting } = await this.call("repairs", (actor) => functions.repeatRepairs(controlled(), actor), LONG_MS);
      if (waiting.length === 0) return;
      await scheduler.sleep(WAIT_MS);
    }
  }

  private async pushAgain(): Promise<void> {
    const { keepers, controlled } = this.of;
    for (;;) {
      const { isWhole } = await this.call(
        "push again",
        (actor) => keepers.pushAgain(controlled(), actor, BUDGET_MS),
        LONG_MS,
      );
      if (isWhole) return;
    }
  }

  private call<T>(what: string, work: (actor: Actor) => Promise<T>, livesMs?: number): Promise<T> {
    return invocation(this.of.scheduler, `${this.name}.${++this.calls} ${what}`, work, livesMs);
  }
}
