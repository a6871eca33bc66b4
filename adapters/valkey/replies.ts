/** What the server-side function answers, and what each code means to a caller. */
import { type FreshetError, InfrastructureError } from "../../core/errors.ts";
import { STORE_STATES, type StoreCondition } from "../online-store/store-states.ts";
import { CONTROL_STATES } from "./layout.ts";

/** Tells an apply why the store's state refuses it. */
export const refusedBy = ({ code, sentence, repair }: StoreCondition & { readonly code: string }) =>
  new InfrastructureError(code, sentence, { repair });

const REFUSALS: Readonly<Record<number, (detail: number) => FreshetError>> = {
  [-1]: () => refusedBy(STORE_STATES.lost),
  [-2]: (epoch) =>
    new InfrastructureError("epoch_changed", `the online store is at epoch ${epoch}, this caller at another one`, {
      repair: "none needed: the caller reads the epoch anew and tries again",
    }),
  [-3]: (state) => refusedBy(CONTROL_STATES[state] === "new" ? STORE_STATES.new : STORE_STATES.restoring),
  [-4]: (group) =>
    new InfrastructureError("group_unknown", `the loaded function knows no group ${group}`, {
      repair: "none needed: the caller loads the function of its plan and tries again",
    }),
  [-5]: (group) =>
    new InfrastructureError("group_new", `the online store does not know group ${group} yet: applies wait`, {
      repair: "none needed: the control function adds it within a minute of the deployment",
    }),
};

export interface Reply {
  readonly nowMs: number;
  /** The primary's run id is not the one that the control hash remembers. */
  readonly failover: boolean;
  /** For each key, its records' outcomes; null when every record of the call was applied. */
  readonly outcomes: readonly Buffer[] | null;
}

/** @throws InfrastructureError for a refusal: nothing of the call was applied */
export function readReply(reply: readonly unknown[]): Reply {
  const code = reply[0] as number;
  if (code < 0) throw REFUSALS[code](reply[1] as number);
  return { nowMs: code, failover: reply[1] === 1, outcomes: reply.length > 2 ? (reply.slice(2) as Buffer[]) : null };
}

export type Fate = "applied" | "duplicate" | "sealed" | "erased";

/**
 * Fates of one key's records, in order. The first apply time of a duplicate is given modulo 2^32 and lies within 24 days of
 * now: before it, or after it by the little that a new primary's clock is behind.
 */
export function readOutcomes(
  bytes: Buffer,
  records: number,
  nowMs: number,
): { fate: Fate; visibleMs: number | null }[] {
  const out: { fate: Fate; visibleMs: number | null }[] = [];
  for (let at = 0, i = 0; i < records; i++) {
    const code = bytes.length === 0 ? 0 : bytes[at++];
    if (code === 0) out.push({ fate: "applied", visibleMs: nowMs });
    else if (code === 2) out.push({ fate: "sealed", visibleMs: null });
    else if (code === 3) out.push({ fate: "erased", visibleMs: null });
    else {
      // Int32: the difference of two numbers modulo 2^32, with its sign.
      const age = (nowMs - bytes.readUInt32LE(at)) | 0;
      out.push({ fate: "duplicate", visibleMs: nowMs - age });
      at += 4;
    }
  }
  return out;
}
