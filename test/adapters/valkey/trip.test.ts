import fc from "fast-check";
import { expect, it } from "vitest";
import { type Argument, encodeArguments, encodeCommands } from "../../../adapters/valkey/trip.ts";
import { runs } from "../../support/runs.ts";

/** A parser of its own: arrays of bulk strings, one after another. */
function parse(bytes: Buffer): Buffer[][] {
  const commands: Buffer[][] = [];
  let at = 0;
  const header = (sign: string): number => {
    const end = bytes.indexOf("\r\n", at);
    const line = bytes.toString("latin1", at, end);
    at = end + 2;
    expect(line).toMatch(/^[*$](0|[1-9]\d*)$/);
    expect(line[0]).toBe(sign);
    return Number(line.slice(1));
  };
  while (at < bytes.length) {
    commands.push(
      Array.from({ length: header("*") }, () => {
        const length = header("$");
        const value = bytes.subarray(at, at + length);
        expect(bytes.toString("latin1", at + length, at + length + 2)).toBe("\r\n");
        at += length + 2;
        return value;
      }),
    );
  }
  return commands;
}

const asBuffer = (arg: Argument): Buffer => (typeof arg === "object" ? arg : Buffer.from(String(arg)));

it("encodes any arguments as the bulk strings that they are", () => {
  const argument = fc.oneof(
    fc.string({ unit: "binary", maxLength: 30 }),
    fc.integer(),
    fc.uint8Array({ maxLength: 1_200 }).map((bytes) => Buffer.from(bytes)),
  );
  const command = fc.record({
    name: fc.constantFrom("HMGET", "FCALL"),
    args: fc.array(argument, { maxLength: 12 }),
    more: fc.option(fc.array(argument, { maxLength: 12 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(command, { minLength: 1, maxLength: 4 }), (commands) => {
      const bytes = encodeCommands(
        commands.map(({ more, ...rest }) => ({ ...rest, tail: more && encodeArguments(more) })),
      );
      const expected = commands.map(({ name, args, more = [] }) => [name, ...args, ...more].map(asBuffer));
      expect(parse(bytes)).toEqual(expected);
    }),
    { numRuns: runs(100) },
  );
});

it("writes counts and lengths of one to four digits", () => {
  for (const length of [0, 9, 10, 99, 100, 999, 1_000]) {
    const args = Array.from({ length }, () => "x");
    expect(parse(encodeCommands([{ name: "DEL", args }]))[0]).toHaveLength(length + 1);
    expect(parse(encodeCommands([{ name: "SET", args: ["k", Buffer.alloc(length)] }]))[0][2]).toHaveLength(length);
  }
});
