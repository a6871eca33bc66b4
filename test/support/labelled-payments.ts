/** A few labelled payments in an archive, for tests of training sets: some late, some ahead, one whose label changed. */
import { FRAUD_START, labelRow, type Payment, paymentRow, type Verdict } from "./fraud-archive.ts";
import { trainingWorld } from "./training-world.ts";

export const MINUTE = 60_000;
export const DAY = 86_400_000;
export const at = (minutes: number) => FRAUD_START + minutes * MINUTE;

const payments: Payment[] = [
  { id: "p1", timeMs: at(0), card: "c1", amount: 10 },
  { id: "p2", timeMs: at(2), card: "c1", amount: 30.5, device: "d1" },
  // Visible after the next one was scored.
  { id: "late", timeMs: at(3), card: "c1", amount: 1000, visibleAfterMs: 20 * MINUTE },
  { id: "p3", timeMs: at(4), card: "c1", amount: 20, country: "SE" },
  { id: "p4", timeMs: at(4), card: "c2", amount: 5 },
  // Its producer's clock is ahead: visible when it is scored.
  { id: "ahead", timeMs: at(30), card: "c2", amount: 7, visibleAfterMs: -5_000 },
  { id: "unlabelled", timeMs: at(31), card: "c2", amount: 9 },
];
const verdicts: Verdict[] = [
  { id: "l1", payment: "p1", timeMs: at(10), fraud: false },
  { id: "l2", payment: "p2", timeMs: at(10), fraud: false },
  { id: "l3", payment: "p3", timeMs: at(10), fraud: false },
  // The bank thought again.
  { id: "l3-again", payment: "p3", timeMs: at(3 * 1440), fraud: true },
  { id: "l-late", payment: "late", timeMs: at(40), fraud: false },
  { id: "l-early", payment: "p4", timeMs: at(4) - 1, fraud: true },
  { id: "l-unknown", payment: "nobody", timeMs: at(20), fraud: true },
  { id: "l-ahead", payment: "ahead", timeMs: at(40), fraud: false },
];

const rows = [...payments.map(paymentRow), ...verdicts.map(labelRow)];

/** Of the test file that calls this. */
export const labelledPayments = () =>
  // Delivered twice, as after a retry.
  trainingWorld("fraud", [...rows, ...rows.slice(0, 9)], {
    fromMs: FRAUD_START,
    toMs: FRAUD_START + DAY,
    labelDelayMs: 7 * DAY,
  });
