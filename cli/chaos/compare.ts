/**
 * Every online feature of every entity, beside what the archive says it must be at the same instant; and every acknowledged
 * event, which the archive must hold.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { mountArchive } from "../../adapters/offline/archive-view.ts";
import { archivedAnswers } from "../../adapters/offline/archived-answers.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { featureAt } from "../../adapters/offline/point-in-time.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import type { Plan, Value } from "../../core/plan.ts";
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
  readonly repaired: boolean;
}

export interface Comparison {
  readonly features: number;
  readonly differences: readonly Difference[];
  /** By identity, events of the streams that were compared. */
  readonly archived: ReadonlyMap<string, Archived>;
}

const READERS = 4;
const ATTEMPTS = 60;
const PAUSE_MS = 500;
/** Event times may lie this far ahead of the instant at which an event becomes visible. */
const AHEAD_MS = 120_000;

/** Reads all features of entities, as callers do: again where an answer is not whole. @throws Error for one that never is */
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
        answers.push(await wholeAnswer(url, apiKey, next));
      }
    }),
  );
  return answers;
}

/** A busy machine may miss the budget of a read, which the answer says. */
async function wholeAnswer(
  url: string,
  apiKey: string,
  { entity, id }: { readonly entity: string; readonly id: string },
): Promise<OnlineAnswer> {
  for (let attempt = 1; ; attempt++) {
    const answer = await fetch(`${url}/v1/features/${entity}/${encodeURIComponent(id)}`, {
      headers: { "x-api-key": apiKey },
      signal: AbortSignal.timeout(20_000),
    });
    const body = (await answer.json()) as any;
    if (answer.status === 200 && body.degraded_reason === null) {
      return { entity, id, asOfMs: body.as_of_ms, features: body.features };
    }
    if (attempt === ATTEMPTS) {
      throw new Error(`reading ${entity} answered ${answer.status}, ${body.degraded_reason ?? body.code}`);
    }
    await sleep(PAUSE_MS);
  }
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
  const { plan, deployment, folder, answers } = options;
  const s3 = s3Client(deployment.clientConfig);
  try {
    const mirror = new ArchiveMirror({ s3, bucket: deployment.archiveBucket, folder });
    const archived = await archivedEvents(options, mirror);
    const wrong: Difference[] = [];
    let features = 0;
    for (const { name: entity } of plan.entities) {
      const own = answers.filter((answer) => answer.entity === entity);
      const views = plan.views.filter((view) => view.entity === entity && options.streams.includes(view.stream));
      const names = views.flatMap((view) => view.features.map(({ name }) => name));
      if (own.length === 0 || names.length === 0) continue;
      const { columns } = await archivedAnswers(
        { plan, mirror, duck: { folder } },
        { tenant: options.tenant, entity, registered: [], features: names },
        own.map(({ id, asOfMs }) => ({ id, asOfMs, untilMs: asOfMs })),
      );
      own.forEach((answer, row) => {
        for (const column of columns) {
          features++;
          const offline = featureAt(column, row);
          const online = answer.features[column.name] ?? UNANSWERED;
          if (online.status === offline.status && sameValue(online.value, offline.value)) continue;
          const { value, status } = offline;
          wrong.push({ entity, id: answer.id, feature: column.name, online, offline: { value, status } });
        }
      });
    }
    return { features, differences: wrong, archived };
  } finally {
    s3.destroy();
  }
}

const UNANSWERED = { value: null, status: "(not answered)" };

/** Bit for bit; JSON has carried the online one. */
const sameValue = (online: Value, offline: Value): boolean => JSON.stringify(online) === JSON.stringify(offline);

/** Every event that the archive holds of the streams, by identity. */
async function archivedEvents(
  { plan, tenant, streams, folder, answers }: CompareOptions,
  mirror: ArchiveMirror,
): Promise<Map<string, Archived>> {
  const session = await DuckSession.open({ folder });
  const toMs = Math.max(...answers.map(({ asOfMs }) => asOfMs)) + AHEAD_MS;
  const archived = new Map<string, Archived>();
  try {
    for (const stream of plan.streams.filter(({ name }) => streams.includes(name))) {
      await mountArchive(session, mirror, { tenant, stream, fromMs: 0, toMs }, "archive");
      const rows = await session.rows(`
SELECT identity, min(visible) AS visible, bool_or(late) AS late, bool_or(repaired) AS repaired FROM (
  SELECT identity, f.entity AS entity, min(f.visible_ms) AS visible, min(f.visible_ms) IS NULL AS late,
    bool_or(f.fate = 'repaired') AS repaired
  FROM (SELECT identity, UNNEST(fates) AS f FROM archive WHERE reason IS NULL) GROUP BY ALL
) GROUP BY identity`);
      for (const { identity, visible, late, repaired } of rows) {
        const visibleMs = visible === null ? null : Number(visible);
        archived.set(identity, { visibleMs, late: Boolean(late), repaired: Boolean(repaired) });
      }
    }
    return archived;
  } finally {
    session.close();
  }
}
