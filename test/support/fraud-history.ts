/** Thirty days of payments with outcomes that can be learnt, the same in every run; each day's within an hour and a half. */
import type { ArchiveRow } from "../../adapters/archive/archive-format.ts";
import { FRAUD_START, labelRow, paymentRow } from "./fraud-archive.ts";

const DAY = 86_400_000;
const DAYS = 30;

/** The same numbers in [0, 1) in every run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

export function fraudHistory(count: number): { payments: ArchiveRow[]; labels: ArchiveRow[] } {
  const draw = numbers(3);
  const perDay = Math.ceil(count / DAYS);
  const payments: ArchiveRow[] = [];
  const labels: ArchiveRow[] = [];
  for (let at = 0; at < count; at++) {
    const fraud = draw() < 0.15;
    const timeMs = FRAUD_START + Math.floor(at / perDay) * DAY + (at % perDay) * 100_000;
    payments.push(
      paymentRow({
        id: `p${at}`,
        timeMs,
        card: `c${Math.floor(draw() * 80)}`,
        amount: Math.round((fraud ? 400 : 60) * (0.2 + draw()) * 100) / 100,
        country: fraud && draw() < 0.5 ? "BR" : draw() < 0.1 ? "SE" : "NO",
        device: draw() < 0.3 ? null : `d${Math.floor(draw() * 40)}`,
      }),
    );
    labels.push(labelRow({ id: `l${at}`, payment: `p${at}`, timeMs: timeMs + DAY, fraud }));
  }
  return { payments, labels };
}
