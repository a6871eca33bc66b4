/** Token buckets in Valkey, one small key for each tenant and route class while it is not full. */
import { createHash } from "node:crypto";
import type { Charged, ChargeRequest, TokenBuckets } from "../online-store/token-buckets.ts";
import { BUCKET_SCRIPT } from "./bucket-script.ts";
import { type Command, commandError, type ValkeyConnection } from "./connection.ts";

const SHA = createHash("sha1").update(BUCKET_SCRIPT).digest("hex");

/** All of a tenant in one slot. Neither part can hold a brace. */
export const limitKey = (tenant: string, routeClass: string): string => `{l:${tenant}}${routeClass}`;

/** @param connection shared with the reader, so that what is asked in one turn travels in one trip */
export function createTokenBuckets(connection: Pick<ValkeyConnection, "run">): TokenBuckets {
  async function evaluate(request: ChargeRequest): Promise<unknown> {
    const [answer] = await connection.run([commandOf("EVALSHA", SHA, request)]);
    if (!(answer instanceof Error && answer.message.startsWith("NOSCRIPT"))) return answer;
    // Once for each primary and start of it. Refused before anything was done, so it is safe to ask again.
    const [again] = await connection.run([commandOf("EVAL", BUCKET_SCRIPT, request)]);
    return again;
  }

  return {
    async charge(request): Promise<Charged> {
      const answer = await evaluate(request);
      if (answer instanceof Error) throw commandError(answer);
      const [admitted, fullAtUs, day, usedToday, nowUs] = answer as number[];
      return { admitted: admitted === 1, bucket: { fullAtUs, day, usedToday }, nowUs };
    },
  };
}

function commandOf(name: string, script: string, request: ChargeRequest): Command {
  const { tenant, routeClass, limit, spent, cost } = request;
  const key = limitKey(tenant, routeClass);
  return { key, name, args: [script, 1, key, spent, cost, limit.perSecond, limit.burst, limit.perDay ?? 0] };
}
