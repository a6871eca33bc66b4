/** What is worked out once for a list of names, and kept: requests repeat themselves. */
export class KeptLists<T> {
  readonly #most: number;
  readonly #values = new Map<string, T>();
  /** By its length the list that was found last: comparing costs less than making one text of many names. */
  readonly #latest: { readonly names: readonly string[]; readonly value: T }[] = [];

  /** @param most lists that are kept; of more, the oldest go */
  constructor(most = 256) {
    this.#most = most;
  }

  get(names: readonly string[]): T | undefined {
    const latest = this.#latest[names.length];
    if (latest !== undefined && names.every((name, i) => name === latest.names[i])) return latest.value;
    const value = this.#values.get(keyOf(names));
    if (value !== undefined) this.#latest[names.length] = { names, value };
    return value;
  }

  /** @param names not changed afterwards, and known ones: what callers invent would push out what they use */
  keep(names: readonly string[], value: T): T {
    const key = keyOf(names);
    if (this.#values.size >= this.#most && !this.#values.has(key)) {
      this.#values.delete(this.#values.keys().next().value as string);
    }
    this.#values.set(key, value);
    this.#latest[names.length] = { names, value };
    return value;
  }
}

/** No other list has the same: with their number, a name that holds a line's end is not taken for two. */
const keyOf = (names: readonly string[]): string => `${names.length}\n${names.join("\n")}`;
