/**
 * Feast's names for ours: a view is a view, a feature its name within the view with the window (`card_activity:amount_sum_1h`).
 * The on-demand features of a service are an on-demand view with the service's name (`fraud:amount_to_mean`).
 */
import type { RegisteredInput } from "../../../core/plan.ts";
import type { Scorer } from "../../../core/scoring/scoring.ts";
import { MAX_FEATURES } from "../limits.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import { KeptLists } from "../reading/kept-lists.ts";
import type { Catalogue, Selection } from "../reading/selection.ts";
import { selectFeatures, selectService } from "../reading/tenant-selection.ts";
import type { RegisteredFeatures } from "../registered/tenant-features.ts";

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
  /** Where the service's stored features are in the selection; -1 for one that the tenant has not registered. */
  readonly inputs: readonly number[];
  /** Which of the service's on-demand features are answered. */
  readonly outputs: readonly number[];
}
export interface FeastSelection {
  /** What is read: what is answered, and what on-demand features are computed from. */
  readonly selection: Selection;
  readonly columns: readonly Column[];
  readonly onDemand: readonly OnDemand[];
  /** Names of columns and on-demand features, in the answer's order: as JSON, each after a comma. */
  readonly namesJson: string;
  /** The same, to be looked up. */
  readonly names: ReadonlySet<string>;
}

/** Lists that callers choose are kept up to this number, with long names and with short ones. */
const KEPT_LISTS = 128;
/** Views that an unknown one is compared with. */
const SUGGESTED = 200;

/** A list of names as it is read, the same for every tenant. */
interface Arranged {
  /** Stored features and what on-demand ones need; the same array each time, so that readers can keep what they derive. */
  readonly read: readonly string[];
  /** What on-demand ones take beside that, where the tenant has registered it. */
  readonly optional: readonly RegisteredInput[];
  readonly stored: readonly string[];
  readonly onDemand: readonly string[];
  /** Of declared features alone, which stay what they are; null while that is not known, and where one is registered. */
  declared: FeastSelection | null;
  /** A registered feature's selection is its tenant's, and changes with its registrations. */
  readonly made: WeakMap<Selection, FeastSelection>;
}

/** What callers ask for, worked out once for each list. */
export class FeastNames {
  readonly #catalogue: Catalogue;
  readonly #registered: RegisteredFeatures | null;
  readonly #scorers: ReadonlyMap<string, Scorer>;
  readonly #longNames = new KeptLists<Arranged>(KEPT_LISTS);
  readonly #shortNames = new KeptLists<Arranged>(KEPT_LISTS);
  /** By a service's selection: with long names, and with short ones. */
  readonly #services = new WeakMap<Selection, Map<boolean, FeastSelection>>();

  constructor(deps: {
    readonly catalogue: Catalogue;
    readonly registered: RegisteredFeatures | null;
    readonly scorers: ReadonlyMap<string, Scorer>;
  }) {
    this.#catalogue = deps.catalogue;
    this.#registered = deps.registered;
    this.#scorers = deps.scorers;
  }

  /** @throws Problem `service_unknown`, `names_collide`, `catalogue_unavailable` */
  service(tenant: string, name: string, full: boolean): FeastSelection | Promise<FeastSelection> {
    const selection = this.#selectService(tenant, name);
    if (selection instanceof Promise) return selection.then((found) => this.#ofService(found, name, full));
    return this.#ofService(selection, name, full);
  }

  #selectService(tenant: string, name: string): Selection | Promise<Selection> {
    try {
      return selectService(this.#catalogue, this.#registered, tenant, name);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "service_unknown") throw error;
      throw new Problem("service_unknown", error.message, { field: "feature_service", repair: error.repair });
    }
  }

  #ofService(selection: Selection, name: string, full: boolean): FeastSelection {
    const made = this.#services.get(selection) ?? new Map<boolean, FeastSelection>();
    this.#services.set(selection, made);
    const kept = made.get(full);
    if (kept !== undefined) return kept;
    const { service } = this.#catalogue.service(name);
    const onDemand = this.#scorers.has(name) ? service.onDemand.map((feature) => `${name}:${feature}`) : [];
    const asked = { stored: service.features, onDemand };
    const built = this.#build(selection, asked, full, { inputs: service.registered, nameOf: ({ name }) => name });
    made.set(full, built);
    return built;
  }

  /** @throws Problem `view_unknown`, `feature_unknown`, `too_many_features`, `names_collide`, `catalogue_unavailable` */
  features(tenant: string, names: readonly string[], full: boolean): FeastSelection | Promise<FeastSelection> {
    const arranged = this.#arrange(names, full);
    return arranged.declared ?? this.#select(tenant, names, arranged, full);
  }

  async #select(tenant: string, names: readonly string[], arranged: Arranged, full: boolean): Promise<FeastSelection> {
    const { optional } = arranged;
    const read = optional.length === 0 ? arranged.read : await this.#withOwn(tenant, arranged);
    let selection: Selection;
    try {
      const found = selectFeatures(this.#catalogue, this.#registered, tenant, read, "features");
      selection = found instanceof Promise ? await found : found;
    } catch (error) {
      throw await this.#withView(error, tenant, names, read);
    }
    // Kept from here on: names that somebody has, and not too many of them.
    this.#listsWith(full).keep(names, arranged);
    const kept = arranged.made.get(selection);
    if (kept !== undefined) return kept;
    // An on-demand feature may need only some of its service's inputs: which, its function alone knows.
    const asked = new Set(arranged.stored);
    const parts = selection.parts.map((part) => ({ ...part, required: part.features.some((name) => asked.has(name)) }));
    const made = this.#build({ ...selection, parts }, arranged, full, { nameOf: versionedInput });
    if (selection.pushed.length === 0 && optional.length === 0) arranged.declared = made;
    else arranged.made.set(selection, made);
    return made;
  }

  /** What on-demand features need, with those inputs that the tenant has registered. */
  async #withOwn(tenant: string, { read, optional }: Arranged): Promise<readonly string[]> {
    const own = await this.#registered?.of(tenant);
    const found = optional.filter((input) => own?.input(input) !== undefined);
    return [...new Set([...read, ...found.map(versionedInput)])];
  }

  #arrange(names: readonly string[], full: boolean): Arranged {
    const kept = this.#listsWith(full).get(names);
    if (kept !== undefined) return kept;
    if (names.length > MAX_FEATURES) {
      throw new Problem(
        "too_many_features",
        `a request names at most ${MAX_FEATURES} features, given ${names.length}`,
        {
          field: "features",
          repair: "ask in several requests",
        },
      );
    }
    names.forEach((name, i) => {
      if (name.includes(":")) return;
      throw new Problem("feature_unknown", `a feature is named view:feature, given "${shorten(name)}"`, {
        field: `features[${i}]`,
        repair: "send it as card_activity:tx_count_1h",
      });
    });
    const onDemand = byView(names.filter((name) => this.#scorerOf(name) !== null));
    const stored = byView(names.filter((name) => this.#scorerOf(name) === null));
    const services = [...new Set(onDemand.map((name) => this.#scorerOf(name)!.service))];
    const optional = services.flatMap(({ registered = [] }) => registered);
    const own = new Set(optional.map(({ name }) => name));
    const inputs = services.flatMap(({ features }) => features.filter((name) => !own.has(name)));
    const read = [...new Set([...stored, ...inputs])];
    return { read, optional, stored, onDemand, declared: null, made: new WeakMap() };
  }

  #listsWith(full: boolean): KeptLists<Arranged> {
    return full ? this.#longNames : this.#shortNames;
  }

  #build(
    selection: Selection,
    { stored, onDemand }: Pick<Arranged, "stored" | "onDemand">,
    full: boolean,
    {
      inputs,
      nameOf,
    }: {
      /** Where the selection is a service's: what it takes of registered features, whether they are there or not. */
      readonly inputs?: readonly RegisteredInput[];
      /** How the selection names such a feature. */
      readonly nameOf: (input: RegisteredInput) => string;
    },
  ): FeastSelection {
    const names = [...stored, ...onDemand].map((name) => shown(name, full));
    checkCollision([...stored, ...onDemand], names);
    const positions = new Map(selection.names.map((name, position) => [name, position]));
    const dtypes = this.#dtypesOf(selection, inputs);
    const services = new Map<Scorer, number[]>();
    for (const name of onDemand) {
      const scorer = this.#scorerOf(name)!;
      const outputs = services.get(scorer) ?? [];
      outputs.push(scorer.service.onDemand.indexOf(keyOf(name)));
      services.set(scorer, outputs);
    }
    return {
      selection,
      names: new Set(names),
      namesJson: names.map((name) => `,${JSON.stringify(name)}`).join(""),
      columns: stored.map((name) => ({ position: positions.get(name)!, isDouble: dtypes.get(name) === "double" })),
      onDemand: [...services].map(([scorer, outputs]) => ({
        scorer,
        inputs: scorer.service.features.map((name) => {
          const input = scorer.service.registered?.find((one) => one.name === name);
          return positions.get(input === undefined ? name : nameOf(input)) ?? -1;
        }),
        outputs,
      })),
    };
  }

  #dtypesOf({ names, pushed }: Selection, inputs: readonly { readonly dtype: string }[] = pushed): Map<string, string> {
    let next = 0;
    // What is not declared is registered, in the same order.
    return new Map(names.map((name) => [name, this.#catalogue.dtypeOf(name) ?? inputs[next++].dtype]));
  }

  /** Of the service whose on-demand feature this is. */
  #scorerOf(name: string): Scorer | null {
    const scorer = this.#scorers.get(viewOf(name));
    return scorer?.service.onDemand.includes(keyOf(name)) ? scorer : null;
  }

  /** An unknown name is told where the caller wrote it; Feast tells an unknown view from what a view lacks. */
  async #withView(error: unknown, tenant: string, names: readonly string[], read: readonly string[]): Promise<unknown> {
    if (!(error instanceof Problem) || error.code !== "feature_unknown") return error;
    const name = read[Number(/\d+/.exec(error.field ?? "")?.[0])];
    const field = `features[${names.indexOf(name)}]`;
    const view = viewOf(name);
    const own = (await this.#registered?.of(tenant))?.all.map((feature) => feature.view) ?? [];
    const views = [...this.#catalogue.views, ...this.#scorers.keys(), ...new Set(own)];
    if (views.includes(view)) return new Problem("feature_unknown", error.message, { field, repair: error.repair });
    return new Problem("view_unknown", `no feature view is named "${shorten(view)}"`, {
      field,
      repair: suggest(view, views.slice(0, SUGGESTED)),
    });
  }
}

const versionedInput = ({ name, version }: RegisteredInput): string => `${name}@${version}`;
const viewOf = (name: string): string => name.slice(0, Math.max(0, name.indexOf(":")));
const keyOf = (name: string): string => name.slice(name.indexOf(":") + 1);
const shown = (name: string, full: boolean): string => (full ? `${viewOf(name)}__${keyOf(name)}` : keyOf(name));

/** In the order given, but for views, each of which stays together: as Feast answers. */
function byView(names: readonly string[]): string[] {
  const views = Map.groupBy(names, viewOf);
  return [...views.values()].flat();
}

/** @param asked in full, aligned with names */
function checkCollision(asked: readonly string[], names: readonly string[]): void {
  const seen = new Map<string, string>();
  names.forEach((name, i) => {
    const other = seen.get(name);
    seen.set(name, asked[i]);
    if (other === undefined) return;
    if (other === asked[i]) {
      throw new Problem("names_collide", `${shorten(other)} is named twice`, {
        field: "features",
        repair: "name each feature once",
      });
    }
    throw new Problem("names_collide", `two of the features are named ${name} in the answer`, {
      field: "features",
      repair: "send full_feature_names: true",
    });
  });
}

/**
 * An answer has the keys that were sent as columns, too, and who reads it by name finds one of the two.
 * @throws Problem `names_collide`
 */
export function checkKeys(keys: readonly string[], { names }: FeastSelection): void {
  for (const key of keys) {
    if (!names.has(key)) continue;
    throw new Problem("names_collide", `a feature is named ${key} in the answer, as the join key is`, {
      field: "features",
      repair: "send full_feature_names: true, or leave the feature out",
    });
  }
}
