/** Which weeks a demo brings, on an emulator's S3: its own, or those that the one before was ended with. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { demoHistory, noteHistory } from "../../cli/demo-history.ts";
import { createBucket, startEmulator, type TestEmulator, testClients } from "../harness/emulator.ts";

const DAY_MS = 86_400_000;
const SEAL_MS = 1_795_000_000_000;
let emulator: TestEmulator;
const place = async (bucket: string) => {
  await createBucket(emulator.url, bucket);
  return { s3: testClients(emulator.url).s3, bucket };
};

beforeAll(async () => {
  emulator = await startEmulator();
});
afterAll(() => emulator?.stop());

it("a first demo brings the weeks up to the seal", async () => {
  const weeks = { fromMs: SEAL_MS - 42 * DAY_MS, toMs: SEAL_MS, isThere: false };
  expect(await demoHistory(await place("first"), SEAL_MS)).toEqual(weeks);
});

it("one after a demo that was ended brings the same weeks, wherever the seal is by then", async () => {
  const at = await place("ended");
  const begun = await demoHistory(at, SEAL_MS);
  await noteHistory(at, begun);
  expect(await demoHistory(at, SEAL_MS + 600_000)).toEqual(begun);
});

it("one after a demo that came to its end brings none", async () => {
  const at = await place("whole");
  const weeks = await demoHistory(at, SEAL_MS);
  await noteHistory(at, { ...weeks, isThere: true });
  expect(await demoHistory(at, SEAL_MS + 600_000)).toEqual({ ...weeks, isThere: true });
});
