/** The comparison that `freshet chaos` ends with, on the deployed app: it finds nothing where all is well, and every fault that is put in. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Comparison, compareWithArchive, type OnlineAnswer, readOnline } from "../../cli/chaos/compare.ts";
import { readDeployment } from "../../cli/deployment.ts";
import { plan } from "../../features/plan.ts";
import { disturb } from "../../local/generator/disturb.ts";
import { deployed, deployedClientConfig } from "../support/deployed.ts";
import { settle } from "../system/app.ts";
import { GroundTruth } from "../system/oracle.ts";
import { newSent, type Sent, sendPacked, simulation } from "../system/sent.ts";

const STREAMS = ["transactions", "clicks"];
const folder = mkdtempSync(join(tmpdir(), "freshet-compare-"));
let sent: Sent;
let answers: OnlineAnswer[];

beforeAll(async () => {
  sent = await newSent();
  const events = [...simulation(sent.tenant, 5, 3)].filter(({ stream }) => STREAMS.includes(stream));
  await sendPacked(sent, [...disturb(events, 5, { duplicates: 0.1 })]);
  await settle(STREAMS);
  sent.truth = new GroundTruth(sent.acknowledged.map(({ event }) => event));
  answers = await readOnline(deployed().serve.url, sent.key, sent.truth.entities.values());
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function compare(given: readonly OnlineAnswer[]): Promise<Comparison> {
  const deployment = await readDeployment("local", deployedClientConfig());
  return compareWithArchive({ plan, deployment, tenant: sent.tenant, streams: STREAMS, folder, answers: given });
}

it("finds every acknowledged event in the archive, and every feature as the archive has it", async () => {
  const found = await compare(answers);
  expect(found.differences).toEqual([]);
  expect(found.features).toBeGreaterThan(answers.length * 3);
  expect([...found.archived.keys()].sort()).toEqual([...sent.truth.events.keys()].sort());
  expect([...found.archived.values()].filter(({ visibleMs, late }) => visibleMs === null || late)).toEqual([]);
});

it("finds a value that is not the archive's, a status, a feature that was not answered, and an answer of another entity", async () => {
  const at = answers.findIndex(({ entity }) => entity === "card");
  const card = answers[at];
  const { "card_activity:tx_count_1h": count, "card_activity:tx_count_24h": day, ...others } = card.features;
  const altered: OnlineAnswer = {
    ...card,
    features: { ...others, "card_activity:tx_count_1h": { ...count, value: Number(count.value) + 1 } },
  };
  const stranger: OnlineAnswer = { ...card, id: "nobody" };
  const found = await compare([...answers.filter((_, i) => i !== at), altered, stranger]);
  const of = (id: string) => found.differences.filter((difference) => difference.id === id);
  expect(of(card.id)).toEqual([
    {
      entity: "card",
      id: card.id,
      feature: "card_activity:tx_count_1h",
      online: { ...count, value: Number(count.value) + 1 },
      offline: { value: count.value, status: "PRESENT" },
    },
    {
      entity: "card",
      id: card.id,
      feature: "card_activity:tx_count_24h",
      online: { value: null, status: "(not answered)" },
      offline: { value: day.value, status: "PRESENT" },
    },
  ]);
  expect(of("nobody").length).toBeGreaterThan(5);
  expect(of("nobody").every(({ offline }) => offline.status === "NOT_FOUND")).toBe(true);
  expect(found.differences.length).toBe(of(card.id).length + of("nobody").length);
});
