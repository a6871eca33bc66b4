/** Waits until all that was put before is applied, set aside, archived and acknowledged. */
import { setTimeout as sleep } from "node:timers/promises";
import { encodeHeartbeat } from "../adapters/avro/event-codec.ts";
import { openBroker } from "../adapters/broker/open-broker.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { Watermark } from "../adapters/valkey/watermark.ts";
import { FreshetError } from "../core/errors.ts";
import { laptopBroker } from "./broker.ts";
import { LOOPBACK } from "./ports.ts";
import type { Deployment } from "./state.ts";

const POLL_MS = 50;

/**
 * Puts a marker onto each shard, which is read in order, and waits until the shard's committed arrival has reached it.
 * @throws FreshetError `not_settled`
 */
export async function settle(
  ports: { readonly emulator: number; readonly valkey: number },
  deployment: Pick<Deployment, "streams" | "environment">,
  timeoutMs: number,
): Promise<void> {
  const broker = await openBroker(laptopBroker(ports.emulator, deployment));
  const connection = new ValkeyConnection({ host: LOOPBACK, port: ports.valkey });
  try {
    const waiting = await Promise.all(
      Object.entries(deployment.streams).map(async ([stream, name]) => {
        const { shards } = await broker.list(name);
        const markedMs = Date.now();
        await broker.putOnEveryShard(name, shards, encodeHeartbeat(markedMs));
        return { stream, shards, markedMs };
      }),
    );
    const watermark = new Watermark(connection);
    const deadline = Date.now() + timeoutMs;
    for (const { stream, shards, markedMs } of waiting) {
      for (;;) {
        const committed = await watermark.read(stream).then(
          (state) => state.committed,
          () => null,
        );
        if (committed !== null && shards.every(({ id }) => (committed.get(id) ?? 0) >= markedMs)) break;
        if (Date.now() > deadline) {
          throw new FreshetError(
            "not_settled",
            `${stream} was not applied up to its end within ${timeoutMs / 1000} s`,
            {
              repair: "run `freshet inspect`, and `freshet logs aggregate` for why",
            },
          );
        }
        await sleep(POLL_MS);
      }
    }
  } finally {
    await connection.close();
    await broker.close();
  }
}
