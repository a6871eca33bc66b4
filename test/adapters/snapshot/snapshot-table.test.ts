/** Reads of many items while DynamoDB fails in part: what no emulator does. */
import type { BatchGetItemCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { describe, expect, it } from "vitest";
import { type ItemKey, itemName, SnapshotTable } from "../../../adapters/snapshot/snapshot-table.ts";

type Keys = Record<string, { S: string }>[];
type Answer = (keys: Keys) => { found: Keys; left?: Keys } | Error;

/** A table that has an item for every key. @param answers to the first calls; those after them are answered in full */
function tableOf(answers: Answer[]) {
  const calls: number[] = [];
  const send = async (command: BatchGetItemCommand, options: { abortSignal: AbortSignal }) => {
    options.abortSignal.throwIfAborted();
    const keys = command.input.RequestItems!["snapshots"].Keys as Keys;
    calls.push(keys.length);
    const whole: Answer = (all) => ({ found: all });
    const answer = (answers.shift() ?? whole)(keys);
    if (answer instanceof Error) throw answer;
    const { found, left = [] } = answer;
    return {
      Responses: {
        snapshots: found.map((key) => ({ ...key, epoch: { N: "1" }, rev: { N: "1" }, taken_ms: { N: "1" } })),
      },
      UnprocessedKeys: left.length === 0 ? {} : { snapshots: { Keys: left } },
    };
  };
  return { calls, table: new SnapshotTable({ table: "snapshots", dynamodb: { send } as unknown as DynamoDBClient }) };
}
const keys = (count: number): ItemKey[] =>
  Array.from({ length: count }, (_, i) => ({ tenant: "default", entity: "card", id: `c${i}`, stream: "transactions" }));
const failure = (name: string, httpStatusCode?: number) =>
  Object.assign(new Error(name), { name, $metadata: { httpStatusCode } });
const patience = () => AbortSignal.timeout(30_000);
const namesOf = (all: readonly ItemKey[]) => all.map(itemName).sort();

describe("items of a table that answers in part", () => {
  it("are all found: what is handed back is asked for again, and it alone", async () => {
    const half: Answer = (all) => ({ found: all.slice(0, all.length / 2), left: all.slice(all.length / 2) });
    const { calls, table } = tableOf([half, half, half]);
    expect([...(await table.get(keys(80), patience())).keys()].sort()).toEqual(namesOf(keys(80)));
    expect(calls).toEqual([80, 40, 20, 10]);
  });

  it.each([
    ["ProvisionedThroughputExceededException", 400],
    ["InternalServerError", 500],
    ["ECONNRESET", undefined],
  ])("are asked for again after %s, while other batches go on", async (name, status) => {
    const { calls, table } = tableOf([() => failure(name, status), (all) => ({ found: all })]);
    expect([...(await table.get(keys(150), patience())).keys()].sort()).toEqual(namesOf(keys(150)));
    expect([...calls].sort()).toEqual([100, 100, 50]);
  });

  it("are given up after three failures of a batch, and at once where another call would fail as well", async () => {
    const down = () => failure("InternalServerError", 500);
    const thrice = tableOf([down, down, down]);
    await expect(thrice.table.get(keys(1), patience())).rejects.toThrow("InternalServerError");
    expect(thrice.calls).toEqual([1, 1, 1]);
    const refused = tableOf([() => failure("AccessDeniedException", 400)]);
    await expect(refused.table.get(keys(1), patience())).rejects.toThrow("AccessDeniedException");
    expect(refused.calls).toEqual([1]);
  });

  it("that are handed back for ever end with the signal", async () => {
    const controller = new AbortController();
    let calls = 0;
    const none: Answer = (all) => {
      if (++calls === 4) controller.abort(new Error("no time left"));
      return { found: [], left: all };
    };
    const { table } = tableOf(Array.from({ length: 100 }, () => none));
    await expect(table.get(keys(3), controller.signal)).rejects.toThrow("no time left");
    expect(calls).toBe(4);
  });
});
