/** What `freshet recover` does (cli/recovery.ts), in the run's world: the same steps in the same order, each of which can fail. */
import type { Broker } from "./broker.ts";
import type { Functions } from "./functions.ts";
import { type Deployed, STREAM, TIMEOUT_MS } from "./plans.ts";
import { Actor, type Scheduler } from "./scheduler.ts";

const AHEAD_MS = 60_000;
/** Records of one invocation that replays. */
const CHUNK = 400;
const ROUNDS = 3;

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

/** @param controlled what control runs @param deployed what the aggregate function runs */
export async function recover(
  scheduler: Scheduler,
  functions: Functions,
  controlled: () => Deployed,
  deployed: () => Deployed,
  broker: Broker,
  name: string,
): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    const own = `${name}.${round}`;
    const control = (what: string, work: (actor: Actor) => Promise<unknown>) =>
      invocation(scheduler, `${own} ${what}`, work) as Promise<any>;
    const found = await control("look", (actor) => functions.control(controlled(), actor, null));
    scheduler.note(`${own} found ${JSON.stringify(found)}`);
    if (found.state === "new") return;
    if (found.state === "ok") return repeat(scheduler, functions, controlled, own);
    if (found.state === "lost") await control("restore", (actor) => functions.restore(controlled(), actor));
    const sealMs = found.seals[STREAM];
    if (found.state !== "failover" || sealMs !== undefined) {
      const fromMs = found.state === "failover" ? sealMs - AHEAD_MS : 0;
      for (const { id, records } of broker.shards) {
        const wanted = records.filter(({ arrivalMs }) => arrivalMs >= fromMs);
        for (let from = 0; from < wanted.length; from += CHUNK) {
          const part = wanted.slice(from, from + CHUNK);
          await invocation(scheduler, `${own} ${id} ${from}`, (actor) => functions.replay(deployed(), actor, id, part));
        }
      }
    }
    scheduler.note(`${own} accepts`);
    const since = found.state === "failover" ? null : 0;
    await control("accept", (actor) => functions.accept(controlled(), actor, found.runs, since));
    const accepted = await control("look again", (actor) => functions.control(controlled(), actor, null));
    if (accepted.state !== "ok") continue;
    return repeat(scheduler, functions, controlled, own);
  }
}

/** What a replica lacked of repairs no replay brings: they were below the seal. */
async function repeat(
  scheduler: Scheduler,
  functions: Functions,
  controlled: () => Deployed,
  own: string,
): Promise<void> {
  for (let tries = 0; ; tries++) {
    const name = `${own} repairs ${tries}`;
    const { waiting } = await invocation(
      scheduler,
      name,
      (actor) => functions.repeatRepairs(controlled(), actor),
      60_000,
    );
    if (waiting.length === 0) return;
    await scheduler.sleep(5_000);
  }
}
