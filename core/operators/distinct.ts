/**
 * Distinct values as a set of 32-bit hashes while there are at most 48, then 1,024 HyperLogLog registers (Flajolet et
 * al. 2007, with linear counting below 2.5 m). Which of the two forms a state has, and all of its bytes, depend on the
 * set of values alone, never on their order.
 */
export type Distinct = readonly number[] | Uint8Array;

export const SPARSE_MAX = 48;
export const REGISTERS = 1024;

export function combineDistinct(a: Distinct, b: Distinct): Distinct {
  if (a instanceof Uint8Array || b instanceof Uint8Array) {
    const registers = a instanceof Uint8Array ? a.slice() : new Uint8Array(REGISTERS);
    if (!(a instanceof Uint8Array)) for (const hash of a) addHash(registers, hash);
    if (b instanceof Uint8Array) for (let i = 0; i < REGISTERS; i++) registers[i] = Math.max(registers[i], b[i]);
    else for (const hash of b) addHash(registers, hash);
    return registers;
  }
  const union = mergeSorted(a, b);
  if (union.length <= SPARSE_MAX) return union;
  const registers = new Uint8Array(REGISTERS);
  for (const hash of union) addHash(registers, hash);
  return registers;
}

function mergeSorted(a: readonly number[], b: readonly number[]): number[] {
  const out: number[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const next = j >= b.length || (i < a.length && a[i] <= b[j]) ? a[i++] : b[j++];
    if (out.length === 0 || out[out.length - 1] !== next) out.push(next);
  }
  return out;
}

/** Top 10 bits choose the register; it keeps the greatest position of the first 1 in the other 22, at most 23. */
function addHash(registers: Uint8Array, hash: number): void {
  const index = hash >>> 22;
  const rank = Math.min(Math.clz32((hash << 10) >>> 0) + 1, 23);
  if (rank > registers[index]) registers[index] = rank;
}

/** The estimate, a whole number; exact for the sparse form but for collisions of 32-bit hashes. */
export function countDistinct(state: Distinct): number {
  if (!(state instanceof Uint8Array)) return state.length;
  let zeros = 0;
  let sum = 0;
  for (const rank of state) {
    if (rank === 0) zeros++;
    sum += 2 ** -rank;
  }
  const raw = ((0.7213 / (1 + 1.079 / REGISTERS)) * REGISTERS * REGISTERS) / sum;
  if (raw <= 2.5 * REGISTERS && zeros > 0) return Math.round(REGISTERS * Math.log(REGISTERS / zeros));
  return Math.round(raw <= 2 ** 32 / 30 ? raw : -(2 ** 32) * Math.log(1 - raw / 2 ** 32));
}
