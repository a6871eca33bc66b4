import { describe, expect, it } from "vitest";
import { KeptLists } from "../../../../functions/api/reading/kept-lists.ts";

describe("kept lists", () => {
  it("answer what was kept for the same names in the same order, and nothing else", () => {
    const lists = new KeptLists<string>();
    lists.keep(["a", "b"], "a and b");
    expect(lists.get(["a", "b"])).toBe("a and b");
    for (const other of [[], ["a"], ["b", "a"], ["a", "b", "c"], ["a", "c"]]) expect(lists.get(other)).toBeUndefined();
    lists.keep(["b", "a"], "b and a");
    expect(lists.get(["a", "b"])).toBe("a and b");
    expect(lists.get(["b", "a"])).toBe("b and a");
    lists.keep(["a", "b"], "anew");
    expect(lists.get(["a", "b"])).toBe("anew");
  });

  it("take no name that holds a line's end for two", () => {
    const lists = new KeptLists<string>();
    lists.keep(["a", "b", "c"], "three");
    lists.keep(["x", "y"], "two");
    expect(lists.get(["a\nb", "c"])).toBeUndefined();
    expect(lists.get(["a", "b\nc"])).toBeUndefined();
  });

  it("are no more than they may be: the oldest go first, and the one in use stays found", () => {
    const lists = new KeptLists<number>(3);
    for (let n = 0; n < 10; n++) lists.keep([`f${n}`], n);
    const found = Array.from({ length: 10 }, (_, n) => lists.get([`f${n}`]));
    expect(found).toEqual([...new Array(7).fill(undefined), 7, 8, 9]);
    // Kept again, it takes no place of another.
    lists.keep(["f8"], 8);
    expect(lists.get(["f7"])).toBe(7);
  });
});
