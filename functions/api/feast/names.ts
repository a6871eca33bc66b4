/**
 * Feast's names for ours: a view is a view, a feature its name within the view with the window (`card_activity:amount_sum_1h`).
 * The on-demand features of a service are an on-demand view with the service's name (`fraud:amount_to_mean`).
 */
import type { Scorer } from "../../../core/scoring.ts";
import { Problem, suggest } from "../problems.ts";
import { type Catalogue, type Selection, shorten } from "../selection.ts";

/** One stored feature of an answer. */
export interface Column {
  /** In the selection that is read. */
  readonly position: number;
  /** Whole doubles are written with `.0`, so that clients which infer types infer this one. */
  readonly isDouble: boolean;
}
/** On-demand features of one service. */
export interface OnDemand {
  readonly scorer: Scorer;
  /** Where the service's stored features are in the selection. */
  readonly inputs: readonly number[];
  /** Which of the service's on-demand features are answered. */
  readonly outputs: readonly number[];
}
export interface FeastSelection {
  /** What is read: what is answered, and what on-demand features are computed from. */
  readonly selection: Selection;
  readonly columns: readonly Column[];
  readonly onDemand: readonly OnDemand[];
  /** Names of columns and on-demand features, in the answer's order. */
  readonly names: readonly string[];
}

/** Lists that callers choose are kept up to this number. */
const KEPT_LISTS = 256;

/** What callers ask for, worked out once for each list. */
export class FeastNames {
  readonly #catalogue: Catalogue;
  readonly #scorers: ReadonlyMap<string, Scorer>;
  readonly #lists = new Map<string, FeastSelection>();
  readonly #services = new Map<string, FeastSelection>();

  constructor(catalogue: Catalogue, scorers: ReadonlyMap<string, Scorer>) {
    this.#catalogue = catalogue;
    this.#scorers = scorers;
  }

  /** @throws Problem `service_unknown`, `names_collide` */
  service(name: string, full: boolean): FeastSelection {
    const key = `${full}\n${name}`;
    const kept = this.#services.get(key);
    if (kept !== undefined) return kept;
    const { selection, service } = this.#catalogue.service(name);
    const scorer = this.#scorers.get(name);
    const outputs = scorer === undefined ? [] : service.onDemand.map((feature) => `${name}:${feature}`);
    const made = this.#build(selection, service.features, outputs, full);
    this.#services.set(key, made);
    return made;
  }

  /** @throws Problem `view_unknown`, `feature_unknown`, `too_many_features`, `names_collide` */
  features(names: readonly string[], full: boolean): FeastSelection {
    const key = `${full}\n${names.join("\n")}`;
    const kept = this.#lists.get(key);
    if (kept !== undefined) return kept;
    for (const [i, name] of names.entries()) this.#checkView(name, `features[${i}]`);
    const onDemand = names.filter((name) => this.#scorerOf(name) !== null);
    const stored = byView(names.filter((name) => !onDemand.includes(name)));
    const inputs = onDemand.flatMap((name) => this.#scorerOf(name)!.service.features);
    const selection = this.#catalogue.features([...stored, ...inputs], "features");
    // An on-demand feature may need only some of its service's inputs: which, its function alone knows.
    const asked = new Set(stored);
    const parts = selection.parts.map((part) => ({ ...part, required: part.features.some((name) => asked.has(name)) }));
    const made = this.#build({ ...selection, parts }, stored, onDemand, full);
    if (this.#lists.size >= KEPT_LISTS) this.#lists.delete(this.#lists.keys().next().value as string);
    this.#lists.set(key, made);
    return made;
  }

  #build(selection: Selection, stored: readonly string[], onDemand: readonly string[], full: boolean): FeastSelection {
    const positions = new Map(selection.names.map((name, position) => [name, position]));
    const names = [...stored, ...byView(onDemand)].map((name) => shown(name, full));
    checkCollision(names, full);
    const services = new Map<Scorer, number[]>();
    for (const name of onDemand) {
      const scorer = this.#scorerOf(name)!;
      const outputs = services.get(scorer) ?? [];
      outputs.push(scorer.service.onDemand.indexOf(keyOf(name)));
      services.set(scorer, outputs);
    }
    return {
      selection,
      names,
      columns: stored.map((name) => ({
        position: positions.get(name)!,
        isDouble: this.#catalogue.dtypeOf(name) === "double",
      })),
      onDemand: [...services].map(([scorer, outputs]) => ({
        scorer,
        inputs: scorer.service.features.map((name) => positions.get(name)!),
        outputs,
      })),
    };
  }

  /** Of the service whose on-demand feature this is. */
  #scorerOf(name: string): Scorer | null {
    const scorer = this.#scorers.get(viewOf(name));
    return scorer?.service.onDemand.includes(keyOf(name)) ? scorer : null;
  }

  /** Only the view: what it lacks is the catalogue's to tell. */
  #checkView(name: string, field: string): void {
    const view = viewOf(name);
    if (!name.includes(":")) {
      throw new Problem("feature_unknown", `a feature is named view:feature, given "${shorten(name)}"`, {
        field,
        repair: "send it as card_activity:tx_count_1h",
      });
    }
    if (this.#catalogue.views.includes(view) || this.#scorers.has(view)) return;
    throw new Problem("view_unknown", `no feature view is named "${shorten(view)}"`, {
      field,
      repair: suggest(view, [...this.#catalogue.views, ...this.#scorers.keys()]),
    });
  }
}

const viewOf = (name: string): string => name.slice(0, Math.max(0, name.indexOf(":")));
const keyOf = (name: string): string => name.slice(name.indexOf(":") + 1);
const shown = (name: string, full: boolean): string => (full ? `${viewOf(name)}__${keyOf(name)}` : keyOf(name));

/** In the order given, but for views, each of which stays together: as Feast answers. */
function byView(names: readonly string[]): string[] {
  const views = Map.groupBy(names, viewOf);
  return [...views.values()].flat();
}

function checkCollision(names: readonly string[], full: boolean): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (!seen.has(name)) {
      seen.add(name);
      continue;
    }
    throw new Problem("names_collide", `two of the features are named ${name} in the answer`, {
      field: "features",
      repair: full ? "name each feature once" : "send full_feature_names: true",
    });
  }
}
