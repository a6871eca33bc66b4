/** The shortest way through everything: an event in by HTTP, its feature out, a score. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { FreshetError } from "../../core/errors.ts";

const DEADLINE_MS = 120_000;

/** @throws FreshetError `smoke_failed` */
export async function smoke({ url, key }: { readonly url: string; readonly key: string }): Promise<void> {
  const call = async (path: string, body: unknown): Promise<any> => {
    const answer = await fetch(url + path, {
      method: "POST",
      headers: { "x-api-key": key, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (answer.ok) return JSON.parse(text);
    throw new FreshetError("smoke_failed", `${path} answered ${answer.status}: ${text.slice(0, 300)}`, {
      repair: "look at the functions' logs",
    });
  };
  const id = `smoke-${randomUUID()}`;
  const keys = { card_id: id, merchant_id: id, device_id: id, user_id: id };
  const payment = { amount: 12.5, currency: "EUR", country: "SE", merchant_category: "grocery", channel: "online" };
  const event = { transaction_id: id, event_time: Date.now(), status: "approved", ...keys, ...payment };
  await call("/v1/events/transactions", event);
  const feature = "card_activity:tx_count_1h";
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const { features } = await call("/v1/features/online", { entities: { card_id: id }, features: [feature] });
    if (features[feature].value === 1) break;
    if (Date.now() > deadline) {
      throw new FreshetError("smoke_failed", `${feature} was not 1 within ${DEADLINE_MS / 1_000} s of its event`, {
        repair: "look at the log of the aggregate function",
      });
    }
    await sleep(250);
  }
  const { score, degraded } = await call("/v1/score/fraud", { ...keys, amount: 12.5, country: "SE" });
  if (typeof score === "number" && degraded === false) return;
  throw new FreshetError("smoke_failed", `the score is ${score}, degraded: ${degraded}`, {
    repair: "look at the log of the api function",
  });
}
