import { type Command, Option } from "commander";
import { type ModelId, type ModelRegistry, type ModelVersion, modelName } from "../../adapters/model/model-registry.ts";
import { promote, retire, rollback } from "../../adapters/model/promotion.ts";
import { registerModel } from "../../adapters/model/register.ts";
import { servableCheck } from "../../adapters/model/servable.ts";
import { FreshetError } from "../../core/errors.ts";
import { ALIASES, type Alias, type Aliases } from "../../core/scoring/aliases.ts";
import { DEFAULT_GATE, type GateCheck, judge } from "../../core/scoring/gate.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import { number } from "../arguments.ts";
import { operator } from "../audited.ts";
import { type StageOption, stageOption } from "../deployment.ts";
import { addExamples } from "../examples.ts";
import { withRegistry } from "../registry.ts";
import { formatTable } from "../table.ts";

interface ModelOptions extends StageOption {
  readonly service: string;
  readonly tenant: string;
  readonly json?: boolean;
}

const SHOWN_METRICS = [
  "pr_auc",
  "roc_auc",
  "recall_at_fpr_1pct",
  "card_precision_at_100",
  "log_loss",
  "brier",
] as const;
const idOf = ({ tenant, service }: ModelOptions): ModelId => ({ tenant, service });
const gateOf = (service: string) => definitions.services.find(({ name }) => name === service)?.gate ?? DEFAULT_GATE;
const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
/** Of a range of a training set: null where it was not bounded; sets that others have made may not say. */
const day = (ms: unknown, open: string): string => (typeof ms === "number" ? new Date(ms).toISOString() : open);
const metric = (value: number | null | undefined): string =>
  typeof value !== "number" ? "-" : Number.isInteger(value) && value > 1 ? String(value) : value.toFixed(4);
const aliasesOf = (version: number, aliases: Aliases): string[] =>
  ALIASES.filter((alias) => aliases[alias] === version);

/** A version as scripts get it. */
const versionJson = (one: ModelVersion, aliases: Aliases) => ({
  version: one.version,
  model: one.model,
  aliases: aliasesOf(one.version, aliases),
  metrics: one.metrics,
  plan_hash: one.planHash,
  git_commit: one.gitCommit,
  created_ms: one.createdMs,
  registered_ms: one.registeredMs,
  by: one.by,
  training_set: one.trainingSet,
});
const checkRow = ({ metric: name, candidate, baseline, worseBy, allowed, passed }: GateCheck) => [
  name,
  metric(baseline),
  metric(candidate),
  worseBy === null ? "-" : `${(-worseBy * 100).toFixed(1)} %`,
  `${-allowed * 100} %`,
  passed ? "ok" : "worse",
];
const CHECK_HEAD = ["metric", "to beat", "candidate", "change", "allowed", "gate"];

export function register(program: Command): void {
  const models = program
    .command("models")
    .description("Versions of models, who is champion, and the gate between them.");
  const command = (name: string, description: string) =>
    models
      .command(name)
      .description(description)
      .option("--service <name>", "the service that it scores for", "fraud")
      .option("--tenant <name>", "whose model", "default")
      .addOption(stageOption())
      .option("--json", "print as JSON");
  const READS = ["list", "show", "compare"];
  /** @param what the command, and what of the service it is about */
  const run = <T>(options: ModelOptions, what: string, work: (registry: ModelRegistry) => Promise<T>) => {
    const [name, ...rest] = what.split(" ");
    const kind = READS.includes(name) ? "read" : "change";
    const target = ["models", options.service, ...rest].join(" ");
    return withRegistry(options, { kind, tenant: options.tenant, action: `models.${name}`, target }, work);
  };

  command("list", "List the versions, newest first.").action(async (options: ModelOptions) => {
    const [versions, aliases] = await run(options, "list", (registry) =>
      Promise.all([registry.list(idOf(options)), registry.aliases(idOf(options))]),
    );
    if (options.json)
      return print(
        JSON.stringify(
          versions.map((one) => versionJson(one, aliases)),
          null,
          2,
        ),
      );
    if (versions.length === 0) return print(`no model is registered for ${options.service}; freshet train makes one`);
    const rows = versions.map((one) => [
      String(one.version),
      one.model,
      aliasesOf(one.version, aliases).join(", "),
      ...SHOWN_METRICS.map((name) => metric(one.metrics[name])),
      new Date(one.registeredMs).toISOString().slice(0, 16),
    ]);
    return print(formatTable([["version", "model", "alias", ...SHOWN_METRICS, "registered"], ...rows]));
  });

  command("show <version>", "Show a version: metrics, lineage, and its part over time.").action(
    async (text: string, options: ModelOptions) => {
      const [one, aliases, history] = await run(options, `show ${text}`, (registry) =>
        Promise.all([
          registry.get(idOf(options), versionOf(text)),
          registry.aliases(idOf(options)),
          registry.history(idOf(options)),
        ]),
      );
      const own = history.filter(({ from, to }) => from === one.version || to === one.version);
      if (options.json) return print(JSON.stringify({ ...versionJson(one, aliases), history: own }, null, 2));
      const { row_count: rows, from_ms: from, to_ms: to } = one.trainingSet as Record<string, any>;
      const lines: [string, string][] = [
        ["model", modelName(one)],
        ["alias", aliasesOf(one.version, aliases).join(", ") || "none"],
        ["plan", one.planHash],
        ["commit", one.gitCommit ?? "unknown"],
        ["trained", new Date(one.createdMs).toISOString()],
        ["registered", `${new Date(one.registeredMs).toISOString()} by ${one.by}`],
        ["training set", `${rows ?? "unknown"} rows, ${day(from, "the beginning")} to ${day(to, "the newest")}`],
        ["artefact", one.prefix],
        ...Object.entries(one.metrics).map(([name, value]): [string, string] => [name, metric(value)]),
      ];
      print(formatTable(lines));
      for (const { atMs, kind, alias, from: before, to: after, by, forced } of own) {
        const overruled = forced ? ", the gate overruled" : "";
        print(
          `  ${new Date(atMs).toISOString()}  ${kind} ${alias}: ${before ?? "none"} -> ${after ?? "none"} by ${by}${overruled}`,
        );
      }
    },
  );

  command("compare <version> [with]", "Compare a version with another, or with the champion, as the gate does.").action(
    async (text: string, other: string | undefined, options: ModelOptions) => {
      const { candidate, champion } = await run(options, `compare ${text}`, async (registry) => {
        const standing = other === undefined ? (await registry.aliases(idOf(options))).champion : versionOf(other);
        return {
          candidate: await registry.get(idOf(options), versionOf(text)),
          champion: standing === null ? null : await registry.get(idOf(options), standing),
        };
      });
      const verdict = judge(candidate, champion, gateOf(options.service));
      const names = { candidate: modelName(candidate), champion: champion === null ? null : modelName(champion) };
      if (options.json) return print(JSON.stringify({ ...names, ...verdict }, null, 2));
      print(`${names.candidate} against ${names.champion ?? "no champion"}`);
      print(formatTable([CHECK_HEAD, ...verdict.checks.map(checkRow)]));
      if (verdict.reservation !== null) print(verdict.reservation);
      print(verdict.passed ? "the gate lets it pass" : `the gate refuses: ${verdict.reason}`);
    },
  );

  command("register <folder>", "Register an artefact that training has written.").action(
    async (folder: string, options: ModelOptions) => {
      const given = { ...idOf(options), plan, nowMs: Date.now(), by: operator() };
      const one = await run(options, "register", (registry) => registerModel(registry, folder, given));
      print(options.json ? JSON.stringify({ version: one.version, model: one.model }) : modelName(one));
    },
  );

  command("promote <version>", "Give a version an alias. The champion's goes through the gate.")
    .addOption(new Option("--alias <alias>", "which part it plays").choices([...ALIASES]).default("champion"))
    .option("--share <number>", "of a challenger: its share of traffic", number(0, 1))
    .option("--force", "overrule the gate; the history keeps that")
    .action(async (text: string, options: ModelOptions & { alias: Alias; share?: number; force?: boolean }) => {
      const { alias, share = null, force = false } = options;
      const { version, change, verdict } = await run(
        options,
        `promote ${text} ${alias}${share === null ? "" : ` share ${share}`}${force ? " force" : ""}`,
        (registry) =>
          promote(registry, idOf(options), {
            version: versionOf(text),
            alias,
            share,
            force,
            gate: gateOf(options.service),
            check: servableCheck(registry, plan),
            nowMs: Date.now(),
            by: operator(),
          }),
      );
      if (options.json) return print(JSON.stringify({ change, verdict }, null, 2));
      if (verdict !== null) print(formatTable([CHECK_HEAD, ...verdict.checks.map(checkRow)]));
      if (verdict?.reservation) print(verdict.reservation);
      print(`${modelName(version)} is ${alias}${change.forced ? ", the gate overruled" : ""}`);
    });

  command("retire", "Take the challenger's or the shadow's alias away.")
    .addOption(new Option("--alias <alias>", "which").choices(["challenger", "shadow"]).makeOptionMandatory())
    .action(async (options: ModelOptions & { alias: "challenger" | "shadow" }) => {
      const { alias } = options;
      const change = await run(options, `retire ${alias}`, (registry) =>
        retire(registry, idOf(options), { alias, nowMs: Date.now(), by: operator() }),
      );
      print(options.json ? JSON.stringify({ change }, null, 2) : `version ${change.from} is ${alias} no longer`);
    });

  command("rollback", "Make the champion before the present one champion again.").action(
    async (options: ModelOptions) => {
      const change = await run(options, "rollback", (registry) =>
        rollback(registry, idOf(options), { check: servableCheck(registry, plan), nowMs: Date.now(), by: operator() }),
      );
      print(
        options.json
          ? JSON.stringify({ change }, null, 2)
          : `version ${change.to} is champion again, ${change.from} no longer`,
      );
    },
  );
  addExamples(models, [
    "freshet models list --service fraud",
    "freshet models show 7",
    "freshet models compare 7",
    "freshet models compare 7 5",
    "freshet models register .freshet/training/fraud-20261121090000000/model --service fraud",
    "freshet models promote 7 --service fraud",
    "freshet models promote 8 --alias challenger --share 0.1",
    "freshet models retire --alias challenger",
    "freshet models rollback --service fraud",
  ]);
}

/** `7` or `fraud-lightgbm@7`. */
function versionOf(text: string): number {
  const version = Number(text.replace(/^.*@/, ""));
  if (Number.isSafeInteger(version) && version > 0) return version;
  throw new FreshetError("version_invalid", `a version is a whole number from 1, given ${text}`, {
    field: "version",
    repair: "freshet models list shows the versions",
  });
}
