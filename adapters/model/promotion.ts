/** What people and pipelines do with registered models: promote one through the gate, go back. */

import { FreshetError } from "../../core/errors.ts";
import { type Alias, type AliasChange, type Aliases, championBefore, withAlias } from "../../core/scoring/aliases.ts";
import { DEFAULT_GATE, type GateDefinition, judge, type Verdict } from "../../core/scoring/gate.ts";
import { type ModelId, type ModelRegistry, type ModelVersion, modelName } from "./model-registry.ts";
import type { ServableCheck } from "./servable.ts";

export interface Promotion {
  readonly version: ModelVersion;
  readonly aliases: Aliases;
  readonly change: AliasChange;
  /** Null where the gate has no say: challengers and shadows. */
  readonly verdict: Verdict | null;
}

/** The gate's verdict on a version, against the champion that stands. */
async function judgeVersion(
  registry: ModelRegistry,
  id: ModelId,
  version: number,
  gate: GateDefinition = DEFAULT_GATE,
): Promise<{ candidate: ModelVersion; champion: ModelVersion | null; aliases: Aliases; verdict: Verdict }> {
  const [candidate, aliases] = await Promise.all([registry.get(id, version), registry.aliases(id)]);
  const champion = aliases.champion === null ? null : await registry.get(id, aliases.champion);
  return { candidate, champion, aliases, verdict: judge(candidate, champion, gate) };
}

/**
 * Gives an alias to a version; for the champion's the gate has to agree, or be overruled.
 * @throws FreshetError `gate_refused`, `alias_conflict`, `model_version_unknown`, `alias_standing`, `champion_needed`,
 *   `share_invalid`, and what `check` throws; the aliases are then as they were
 */
export async function promote(
  registry: ModelRegistry,
  id: ModelId,
  options: {
    readonly version: number;
    readonly alias: Alias;
    readonly gate?: GateDefinition;
    readonly force?: boolean;
    /** Of a challenger: its share of traffic. */
    readonly share?: number | null;
    /** Not even `force` overrules it: what cannot serve would leave the old model in place until a restart, then none. */
    readonly check: ServableCheck;
    readonly nowMs: number;
    readonly by: string;
  },
): Promise<Promotion> {
  const { version, alias, force = false, share = null } = options;
  if (share !== null && alias !== "challenger") {
    // Left out of account, a forgotten alias would give all traffic instead of a share.
    throw new FreshetError("share_invalid", `only a challenger gets a share, given ${share} with alias ${alias}`, {
      field: "share",
      repair: "give the alias challenger, or leave the share out",
    });
  }
  const { candidate, champion, aliases, verdict } = await judgeVersion(registry, id, version, options.gate);
  if (aliases[alias] === version && (alias !== "challenger" || share === aliases.share)) {
    throw new FreshetError("alias_standing", `${modelName(candidate)} is ${alias} already`, {
      field: "version",
      repair: "nothing to do",
    });
  }
  if (alias !== "champion" && aliases.champion === version) {
    // A version has one part at most: it would leave the champion's empty, and rules would score unasked.
    const message = `${modelName(candidate)} is champion, and as ${alias} it would leave model ${id.service} without one`;
    throw new FreshetError("champion_needed", message, {
      field: "alias",
      repair: "promote another version to champion first",
    });
  }
  if (share !== null && !(share >= 0 && share <= 1)) {
    throw new FreshetError("share_invalid", `a share lies between 0 and 1, given ${share}`, {
      field: "share",
      repair: "use 0.1 for a tenth of the traffic",
    });
  }
  const gated = alias === "champion";
  if (gated && !verdict.passed && !force) {
    const against = champion === null ? "" : ` in place of ${modelName(champion)}`;
    throw new FreshetError("gate_refused", `the gate refuses ${modelName(candidate)}${against}: ${verdict.reason}`, {
      field: "version",
      repair: "train a better one, or overrule the gate with --force; that is kept in the history",
    });
  }
  await options.check(candidate);
  const next = withAlias(aliases, alias, version, share);
  const change = await registry.change(id, next, {
    atMs: options.nowMs,
    alias,
    from: aliases[alias],
    to: version,
    kind: "promote",
    by: options.by,
    forced: gated && !verdict.passed,
    reason: gated ? (verdict.reason ?? verdict.reservation) : null,
  });
  return { version: candidate, aliases: next, change, verdict: gated ? verdict : null };
}

/** Takes an alias away; a champion is replaced or rolled back instead. @throws FreshetError `alias_conflict`, `alias_empty` */
export async function retire(
  registry: ModelRegistry,
  id: ModelId,
  options: { readonly alias: Exclude<Alias, "champion">; readonly nowMs: number; readonly by: string },
): Promise<AliasChange> {
  const aliases = await registry.aliases(id);
  const { alias, nowMs, by } = options;
  if (aliases[alias] === null) {
    throw new FreshetError("alias_empty", `model ${id.service} has no ${alias}`, {
      field: "alias",
      repair: "nothing to do",
    });
  }
  const change = {
    atMs: nowMs,
    alias,
    from: aliases[alias],
    to: null,
    kind: "promote",
    by,
    forced: false,
    reason: null,
  } as const;
  return registry.change(id, withAlias(aliases, alias, null), change);
}

/**
 * Makes the champion before the present one champion again.
 * @throws FreshetError `rollback_impossible`, `alias_conflict`, and what `check` throws; the aliases are then as they were
 */
export async function rollback(
  registry: ModelRegistry,
  id: ModelId,
  options: { readonly check: ServableCheck; readonly nowMs: number; readonly by: string },
): Promise<AliasChange> {
  const [aliases, history] = await Promise.all([registry.aliases(id), registry.history(id)]);
  const { champion } = aliases;
  const before = champion === null ? null : championBefore(champion, history);
  if (before === null) {
    const what = champion === null ? "has no champion" : `had no champion before version ${champion}`;
    throw new FreshetError("rollback_impossible", `model ${id.service} ${what}`, {
      field: "alias",
      repair: "promote another version: freshet models list shows them",
    });
  }
  await options.check(await registry.get(id, before));
  return registry.change(id, withAlias(aliases, "champion", before), {
    atMs: options.nowMs,
    alias: "champion",
    from: champion,
    to: before,
    kind: "rollback",
    by: options.by,
    forced: false,
    reason: null,
  });
}
