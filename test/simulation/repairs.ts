/** Repairs beside the specification: a late event is folded once, where it is sealed, and nobody counts it yet. */
import { channelNeeds } from "../../adapters/valkey/function-source.ts";
import { bucketOf, parseEntityKey } from "../../adapters/valkey/layout.ts";
import { readMendAnswer } from "../../adapters/valkey/mend.ts";
import type { PutCall } from "../../adapters/valkey/put.ts";
import { readReply } from "../../adapters/valkey/replies.ts";
import type { Group, Plan } from "../../core/plan.ts";
import type { SimulatedServer, Watched } from "./connection.ts";
import type { SimulatedEvent } from "./events.ts";

/** What is seen of the calls of one repair, as they take effect. */
export function watchMend(server: SimulatedServer, plan: Plan, calls: readonly PutCall[]): Watched {
  return {
    calls: calls.map((_, c) => c),
    throws: () => false,
    settled: (c, answer) => {
      const { nowMs, outcomes } = readReply(answer);
      for (const [k, { key, blob }] of calls[c].puts.entries()) {
        const told = readMendAnswer(outcomes?.[k] ?? null, nowMs);
        if (told.kind !== "done") continue;
        const group = plan.groups.find(({ id }) => id === blob[0])!;
        const records = recordsOf(group, blob);
        for (const [r, outcome] of told.outcomes.entries()) {
          const event = server.spec.events.get(records[r])!;
          if (outcome.fate === "mended")
            mended(server, group, key, event, outcome.fingerprint === null, outcome.visibleMs);
        }
      }
    },
  };
}

function mended(
  server: SimulatedServer,
  group: Group,
  key: string,
  event: SimulatedEvent,
  anew: boolean,
  visibleMs: number,
): void {
  const { spec } = server;
  const known = spec.entities.get(key)?.visible.has(event) ?? false;
  const what = `event ${event.index} (${event.identity}) of ${key}`;
  if (anew && known) server.violated(`${what} is repaired, and was counted before`);
  if (!anew && !known) server.violated(`${what} is told as repaired before, and is not counted`);
  const { tenant, entity, id } = parseEntityKey(Buffer.from(key))!;
  const seal = spec.sealOf(bucketOf(tenant, entity, id), group.id);
  if (anew && Math.floor(event.timeMs / group.baseMs) >= seal)
    server.violated(`${what} is repaired, and its tile is open`);
  if (event.timeMs < (spec.entities.get(key)?.erasedMs ?? 0)) server.violated(`${what} is repaired, and was erased`);
  if (anew) server.scheduler.dice.happened("event repaired");
  spec.count({ tenant, entity, id, groupId: group.id, key }, event, visibleMs);
}

/** Identities of a mend's records, in order. */
function recordsOf(group: Group, blob: Buffer): string[] {
  const needs = group.channels.map((_, channel) => channelNeeds(group, channel));
  const found: string[] = [];
  let at = 19 + blob.readUInt16LE(17) * 8;
  while (at < blob.length) {
    const count = blob.readUInt16LE(at + 4);
    at += 10;
    for (let i = 0; i < count; i++) {
      found.push(blob.toString("latin1", at + 4, at + 12));
      const mask = blob.readUInt32LE(at + 16);
      at += 20;
      for (const [channel, need] of needs.entries()) {
        if ((mask & (1 << channel)) === 0) continue;
        at += (need.value ? 8 : 0) + (need.squares ? 16 : 0) + (need.hash ? 4 : 0) + (need.bucket ? 2 : 0);
        if (need.object) at += 2 + blob.readUInt16LE(at);
      }
    }
  }
  return found;
}
