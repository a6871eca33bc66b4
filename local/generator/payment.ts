/** A payment before it becomes an event. */
import type { Pattern } from "./fraud.ts";
import type { Customer, Merchant } from "./population.ts";

export interface Payment {
  readonly timeMs: number;
  readonly customer: Customer;
  readonly card: string;
  readonly device: string | null;
  readonly merchant: Merchant;
  readonly amount: number;
  readonly country: string;
  readonly declined: boolean;
  /** The behaviour that it is part of; whether it is fraud is decided by `Risk`. */
  readonly behaviour: Pattern | null;
}

export const price = (amount: number): number => Math.max(0.5, Math.round(Math.min(amount, 50_000) * 100) / 100);
