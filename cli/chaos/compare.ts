/**
 * Every online feature of every entity, beside what the archive says it must be at the same instant; and every acknowledged
 * event, which the archive must hold.
 */
import { S3Client } from "@aws-sdk/client-s3";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { entityEventsSql } from "../../adapters/offline/entity-events.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { archiveMount } from "../../adapters/offline/mount.ts";
import { featureAt, joinPointInTime } from "../../adapters/offline/point-in-time.ts";
import { keyColumn } from "../../adapters/offline/point-in-time-sql.ts";
import type { Entity, Plan, Value } from "../../core/plan.ts";
import type { OperatedDeployment } from "../deployment.ts";

export interface OnlineAnswer {
  readonly entity: string;
  readonly id: string;
  readonly asOfMs: number;
  readonly features: Readonly<Record<string, { readonly value: Value; readonly status: string }>>;
}

export interface Difference {
  readonly entity: string;
  readonly id: string;
  readonly feature: string;
  readonly online: { readonly value: Value; readonly status: string };
  readonly offline: { readonly value: Value; readonly status: string };
}

/** What the archive holds of one event. */
export interface Archived {
  /** The smallest of any entity; null while it is late for all. */
  readonly visibleMs: number | null;
  /** It is late for some entity, and nobody has repaired that. */
  readonly late: boolean;
}

export interface Comparison {
  readonly features: number;
  readonly differences: readonly Difference[];
  /** By identity, events of the streams that were compared. */
  readonly archived: ReadonlyMap<string, Archived>;
}

const READERS = 4;
/** Event times may lie this far ahead of the instant at which an event becomes visible. */
const AHEAD_MS = 120_000;

/** Reads all features of entities, as callers do. @throws Error for an answer that is not whole */
export async function readOnline(
  url: string,
  apiKey: string,
  entities: Iterable<{ readonly entity: string; readonly id: string }>,
): Promise<OnlineAnswer[]> {
  const rest = [...entities];
  const answers: OnlineAnswer[] = [];
  await Promise.all(
    Array.from({ length: READERS }, async () => {
      for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
        const { entity, id } = next;
        const answer = await fetch(`${url}/v1/features/${entity}/${encodeURIComponent(id)}`, {
          headers: { "x-api-key": apiKey },
          signal: AbortSignal.timeout(20_000),
        });
        const body = (await answer.json()) as any;
        if (answer.status !== 200 || body.degraded_reason !== null) {
          throw new Error(`reading ${entity} answered ${answer.status}, ${body.degraded_reason ?? body.code}`);
        }
        answers.push({ entity, id, asOfMs: body.as_of_ms, features: body.features });
      }
    }),
  );
  return answers;
}

export interface CompareOptions {
  readonly plan: Plan;
  readonly deployment: OperatedDeployment;
  readonly tenant: string;
  /** Of the events that were sent: features of these are compared. */
  readonly streams: readonly string[];
  /** For copies of the archive's objects. */
  readonly folder: string;
  readonly answers: readonly OnlineAnswer[];
}

/** @throws FreshetError of reading the archive */
export async function compareWithArchive(options: CompareOptions): Promise<Comparison> {
  const { plan, deployment, tenant, streams, folder, answers } = options;
  const s3 = new S3Client({ ...deployment.clientConfig, forcePathStyle: true });
  const session = await DuckSession.open({ folder });
  try {
    const mirror = new ArchiveMirror({ s3, bucket: deployment.archiveBucket, folder });
    const mount = archiveMount(session, mirror, tenant);
    const toMs = Math.max(...answers.map(({ asOfMs }) => asOfMs)) + AHEAD_MS;
    const archived = new Map<string, Archived>();
    for (const stream of plan.streams.filter(({ name }) => streams.includes(name))) {
      await mount(stream, { fromMs: 0, toMs }, archiveOf(stream.name));
      for (const [identity, found] of await archivedEvents(session, stream.name)) archived.set(identity, found);
    }
    const found = await differences(session, plan, answers, streams);
    return { ...found, archived };
  } finally {
    session.close();
    s3.destroy();
  }
}

const archiveOf = (stream: string): string => `archive_${stream}`;

async function archivedEvents(session: DuckSession, stream: string): Promise<[string, Archived][]> {
  const rows = await session.rows(`
SELECT identity, min(visible) AS visible, bool_or(late) AS late FROM (
  SELECT identity, f.entity AS entity, min(f.visible_ms) AS visible, min(f.visible_ms) IS NULL AS late
  FROM (SELECT identity, UNNEST(fates) AS f FROM ${archiveOf(stream)} WHERE reason IS NULL) GROUP BY ALL
) GROUP BY identity`);
  return rows.map(({ identity, visible, late }) => [
    identity,
    { visibleMs: visible === null ? null : Number(visible), late: Boolean(late) },
  ]);
}

async function differences(
  session: DuckSession,
  plan: Plan,
  answers: readonly OnlineAnswer[],
  streams: readonly string[],
): Promise<{ features: number; differences: Difference[] }> {
  await makeSpine(session, plan.entities, answers);
  const times = answers.map(({ asOfMs }) => asOfMs);
  const views = plan.views.filter(({ stream }) => streams.includes(stream));
  const names = views.flatMap(({ features }) => features.map(({ name }) => name));
  const columns = await joinPointInTime(session, {
    plan,
    features: names,
    spine: { relation: "spine", rows: answers.length, fromMs: Math.min(...times), toMs: Math.max(...times) },
    events: (group) => entityEventsSql(plan, group.entity, { archive: archiveOf(group.stream) }),
  });
  const entityOf = new Map(views.flatMap((view) => view.features.map(({ name }) => [name, view.entity] as const)));
  const wrong: Difference[] = [];
  let compared = 0;
  columns.forEach((column) => {
    answers.forEach(({ entity, id, features }, row) => {
      if (entityOf.get(column.name) !== entity) return;
      compared++;
      const { value, status } = featureAt(column, row);
      const online = features[column.name];
      if (online !== undefined && online.status === status && sameValue(online.value, value)) return;
      wrong.push({
        entity,
        id,
        feature: column.name,
        online: online ?? { value: null, status: "(not answered)" },
        offline: { value, status },
      });
    });
  });
  return { features: compared, differences: wrong };
}

/** Bit for bit; JSON has carried the online one. */
const sameValue = (online: Value, offline: Value): boolean => JSON.stringify(online) === JSON.stringify(offline);

async function makeSpine(
  session: DuckSession,
  entities: readonly Entity[],
  answers: readonly OnlineAnswer[],
): Promise<void> {
  const columns = entities.map(({ name }) => `, ${keyColumn(name)} VARCHAR`);
  await session.run(`CREATE OR REPLACE TABLE spine ("row id" BIGINT, "as of" BIGINT${columns.join("")})`);
  await session.append("spine", [
    answers.map((_, i) => BigInt(i)),
    answers.map(({ asOfMs }) => BigInt(asOfMs)),
    ...entities.map(({ name }) => answers.map(({ entity, id }) => (entity === name ? id : null))),
  ]);
}
