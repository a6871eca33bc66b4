/** Turns definitions into the plan, refusing what could not be computed exactly. */

import type { Definitions, FeatureViewDefinition, StreamDefinition } from "../definition.ts";
import { formatDuration, parseDuration } from "../duration.ts";
import { refuse } from "../errors.ts";
import type { Hash64 } from "../event.ts";
import { canonicalJson } from "../json.ts";
import type { Channel, Contract, Group, Plan, Stream, View } from "../plan.ts";
import { checkRegistered } from "../registered-feature.ts";
import { compileBatchView } from "./compile-batch.ts";
import { compileEnrich } from "./enrich.ts";
import { checkField, type Draft, draftFeatures, NAME, toFeature } from "./feature.ts";
import { LADDER, layOut } from "./group.ts";
import { type Lock, retireGroup } from "./lock.ts";
import { compileService } from "./service.ts";
import { checkShape } from "./shape.ts";

// Callers hand a lock in and record the one that comes back.
export { canonicalJson } from "../json.ts";
export { EMPTY_LOCK, type Lock } from "./lock.ts";

/** Presence of channels travels as one 32-bit mask. */
const MAX_CHANNELS = 32;
/** An applier numbers the entities of one event by 6 bits. */
const MAX_ENTITIES = 64;
/** Silent keys outlive their last window by a day, so that a slow reader or repair still finds them. */
const EXPIRY_MARGIN_MS = 86_400_000;
/** @throws DefinitionError with rule, given value and repair */
export function compile(
  definitions: Definitions,
  contracts: Readonly<Record<string, Contract>>,
  lock: Lock,
  hash64: Hash64,
): { plan: Plan; lock: Lock } {
  checkShape(definitions);
  unique("entity", definitions.entities);
  unique("stream", definitions.streams);
  const batch = definitions.batchViews ?? [];
  unique("feature view", [...definitions.views, ...batch]);
  unique("feature service", definitions.services);
  const streams = definitions.streams.map((stream) => compileStream(stream, contracts));
  const nextLock: Lock = structuredClone(lock) as Lock;
  const groups: Group[] = [];
  const views: View[] = [];
  const names = [...new Set(definitions.views.map(({ entity, source }) => `${entity.name}:${source.name}`))];
  for (const name of Object.keys(nextLock.groups)) {
    if (!names.includes(name)) nextLock.groups[name] = retireGroup(nextLock.groups[name]);
  }
  for (const name of names) {
    const members = definitions.views.filter(({ entity, source }) => `${entity.name}:${source.name}` === name);
    const [{ entity, source }] = members;
    if (!definitions.entities.some(({ name: known }) => known === entity.name)) {
      refuse(
        "entity_unknown",
        `view ${members[0].name} uses entity ${entity.name}, which the definitions do not list`,
        "add it to entities in features/index.ts",
      );
    }
    const stream = streams.find(({ name: known }) => known === source.name);
    if (!stream) {
      return refuse(
        "stream_unknown",
        `view ${members[0].name} reads stream ${source.name}, which the definitions do not list`,
        "add it to streams in features/index.ts",
      );
    }
    checkField(`view ${members[0].name}`, entity.joinKey, stream.fields, ["string", "long"]);
    const built = buildGroup(name, members, stream, groups.length, nextLock);
    groups.push(built.group);
    views.push(...built.views);
  }
  for (const { name } of streams) {
    const entities = groups.filter(({ stream }) => stream === name).length;
    if (entities > MAX_ENTITIES) {
      refuse(
        "too_many_entities",
        `stream ${name} feeds ${entities} entities, the limit is ${MAX_ENTITIES}`,
        "split it",
      );
    }
  }
  views.sort(
    (a, b) =>
      definitions.views.findIndex(({ name }) => name === a.name) -
      definitions.views.findIndex(({ name }) => name === b.name),
  );
  const entities = definitions.entities.map(({ name, joinKey, description, fallback }) => ({
    name,
    joinKey,
    description,
    ...(fallback ? { fallback: true as const } : {}),
  }));
  const pushed: Record<string, string[]> = structuredClone(lock.pushed ?? {}) as Record<string, string[]>;
  const batchViews = batch.map((view) => compileBatchView(view, entities, streams, (pushed[view.name] ??= [])));
  const known = {
    entities,
    features: [...views, ...batchViews].flatMap(({ entity, features }) =>
      features.map(({ name, dtype }) => ({ name, dtype, entity })),
    ),
  };
  const body = {
    version: 1 as const,
    entities,
    streams: streams.map((stream, index) => compileEnrich(definitions.streams[index], stream, known)),
    groups,
    views,
    batchViews,
    services: definitions.services.map((service) => compileService(service, entities, [...views, ...batchViews])),
  };
  checkRegistered(body.services, entities);
  const layout = groups.map(({ id, name, baseMs, levels, channels, slots, expireMs }) => ({
    id,
    name,
    baseMs,
    levels,
    channels,
    slots,
    expireMs,
  }));
  return {
    plan: { ...body, hash: hash64(canonicalJson(body)), layoutHash: hash64(canonicalJson(layout)) },
    lock: Object.keys(pushed).length === 0 ? nextLock : { ...nextLock, pushed },
  };
}

function unique(what: string, items: readonly { readonly name: string }[]): void {
  const seen = new Set<string>();
  for (const { name } of items) {
    if (!NAME.test(name)) {
      refuse("name_invalid", `a name is 1 to 63 of a-z, 0-9 and _, given "${name}"`, `rename the ${what}`);
    }
    if (seen.has(name)) refuse("name_taken", `two of ${what} are named ${name}`, "rename one of them");
    seen.add(name);
  }
}

function compileStream(definition: StreamDefinition, contracts: Readonly<Record<string, Contract>>): Stream {
  const contract = contracts[definition.schema];
  if (!contract) {
    return refuse(
      "contract_unknown",
      `stream ${definition.name} has contract ${definition.schema}`,
      `use one of ${Object.keys(contracts).join(", ")}, or add schemas/${definition.schema}.avsc`,
    );
  }
  const where = `stream ${definition.name}`;
  checkField(where, "tenant", contract.fields, ["string"]);
  checkField(where, definition.eventId, contract.fields, ["string", "long"]);
  checkField(where, definition.eventTime, contract.fields, ["long"]);
  checkField(where, definition.partitionKey, contract.fields, ["string", "long"]);
  const baseMs = parseDuration(definition.base, "base", where);
  if (LADDER.every((step) => step % baseMs !== 0)) {
    refuse("base_invalid", `base ${definition.base} of ${where} divides no day`, "use 1s, 10s, 1m or 5m", "base");
  }
  return {
    name: definition.name,
    contract: definition.schema,
    fields: contract.fields,
    eventId: definition.eventId,
    eventTime: definition.eventTime,
    partitionKey: definition.partitionKey,
    allowedLatenessMs: parseDuration(definition.allowedLateness, "allowedLateness", where),
    baseMs,
  };
}

function buildGroup(
  name: string,
  members: readonly FeatureViewDefinition[],
  stream: Stream,
  position: number,
  lock: Lock,
): { group: Group; views: View[] } {
  const channels: Channel[] = [];
  const drafts = members.flatMap((view) => {
    const found = Object.entries(view.features).flatMap(([key, aggregation]) =>
      draftFeatures(view, key, aggregation, stream, channels),
    );
    if (found.length === 0) refuse("view_empty", `view ${view.name} has no feature`, "add one, or remove the view");
    unique(`${view.name}'s features`, found);
    return found;
  });
  if (channels.length > MAX_CHANNELS) {
    refuse(
      "too_many_inputs",
      `${name} has ${channels.length} distinct inputs (field, where, scale), the limit is ${MAX_CHANNELS}`,
      "share conditions between features or split the stream",
    );
  }
  const { id, levels, absorbing, slots, positions } = layOut(name, stream.baseMs, drafts, lock);
  const reaches = members.map((view) => reachOf(drafts.filter((draft) => draft.view === view)));
  const views = members.map((view, index): View => {
    const ttlMs = parseDuration(view.ttl, "ttl", `view ${view.name}`);
    const longest = longestOf(drafts.filter((draft) => draft.view === view));
    if (ttlMs < longest) {
      refuse(
        "ttl_too_short",
        `ttl ${view.ttl} of view ${view.name} is shorter than its longest window with delay, ${formatDuration(longest)}`,
        `use a ttl of at least ${formatDuration(longest)}`,
        "ttl",
      );
    }
    return {
      name: view.name,
      entity: view.entity.name,
      stream: stream.name,
      group: position,
      ttlMs,
      reachMs: reaches[index],
      owner: view.owner,
      description: view.description,
      tags: view.tags,
      features: drafts.flatMap((draft, d) => (draft.view === view ? [toFeature(draft, positions[d])] : [])),
    };
  });
  const hasLifetime = slots.some(({ lifetime }) => lifetime);
  const group: Group = {
    id,
    name,
    entity: members[0].entity.name,
    stream: stream.name,
    baseMs: stream.baseMs,
    levels,
    absorbing,
    channels,
    slots,
    hasLifetime,
    expireMs: hasLifetime ? null : longestOf(drafts) + EXPIRY_MARGIN_MS,
  };
  return { group, views };
}

const longestOf = (drafts: readonly Draft[]): number =>
  Math.max(0, ...drafts.map(({ window }) => (window.kind === "lifetime" ? 0 : window.sizeMs + window.delayMs)));

/** How far back any window of a view sees; null for ever. */
const reachOf = (drafts: readonly Draft[]): number | null =>
  drafts.some(({ window }) => window.kind === "lifetime") ? null : longestOf(drafts);
