/**
 * Bounds what keys that nobody has can cost: each that this host has not met is a read of the table. Only those that turn out to
 * be none are counted, by the address they came from and all together; keys that the host knows never come here. So a flood of
 * guesses is refused without a read, and at worst a key's first use on this host waits for it to pass.
 */
import { type Bucket, charge, FULL, type Limit, shortageOf } from "../../../core/token-bucket.ts";
import { Problem } from "../problems.ts";

/** A person who mistypes, or a program that starts with an old key on many threads. */
const OF_ADDRESS: Limit = { perSecond: 5, burst: 20, perDay: null };
/** Some hundred reads of a table that is paid by the read. */
const OF_ALL: Limit = { perSecond: 100, burst: 200, perDay: null };
const ADDRESSES = 10_000;

export interface LookupGuard {
  /** Before a look-up. @throws Problem `rate_limited` */
  enter(address: string): void;
  /** The key was good: it does not count. */
  forgive(address: string): void;
}

/** @param clock epoch milliseconds */
export function createLookupGuard(clock: () => number): LookupGuard {
  const addresses = new Map<string, Bucket>();
  let all = FULL;

  function put(address: string, bucket: Bucket): void {
    addresses.delete(address);
    if (addresses.size >= ADDRESSES) addresses.delete(addresses.keys().next().value as string);
    addresses.set(address, bucket);
  }

  function count(address: string, cost: number): void {
    const nowUs = clock() * 1_000;
    const network = networkOf(address);
    put(network, charge(addresses.get(network) ?? FULL, OF_ADDRESS, cost, nowUs));
    all = charge(all, OF_ALL, cost, nowUs);
  }

  return {
    enter(address) {
      const nowUs = clock() * 1_000;
      const own = addresses.get(networkOf(address)) ?? FULL;
      const shortage = shortageOf(own, OF_ADDRESS, 1, nowUs) ?? shortageOf(all, OF_ALL, 1, nowUs);
      if (shortage !== null) throw tooMany(Math.ceil(shortage.waitUs / 1e6));
      count(address, 1);
    },
    forgive: (address) => count(address, -1),
  };
}

/** Whoever has one address of IPv6 has a network of them: its first 64 bits, as far as they are written out. */
const networkOf = (address: string): string =>
  address.includes(":") ? address.split(":").slice(0, 4).join(":") : address;

const tooMany = (wait: number) =>
  new Problem("rate_limited", "too many keys that do not exist came lately", {
    field: "x-api-key",
    repair: `check the key, and send it again after ${wait} s`,
    headers: { "retry-after": String(wait) },
  });
