/** What a request selects where part of it may be its tenant's own. */
import { within } from "../../../adapters/online-store/within.ts";
import { InfrastructureError } from "../../../core/errors.ts";
import { Problem } from "../problems.ts";
import type { RegisteredFeatures, TenantFeatures } from "../registered/tenant-features.ts";
import type { Catalogue, Selection } from "./selection.ts";

/** What a list of names selects, declared or registered. @throws Problem `feature_unknown`, `too_many_features` */
export function selectFeatures(
  catalogue: Catalogue,
  registered: RegisteredFeatures | null,
  tenant: string,
  names: readonly string[],
  field: string,
): Selection | Promise<Selection> {
  const declared = catalogue.declared(names, field);
  if (declared !== null) return declared;
  if (registered === null) return catalogue.features(names, field);
  const own = registered.of(tenant);
  return own instanceof Promise ? own.then(select) : select(own);

  function select(known: TenantFeatures): Selection | Promise<Selection> {
    try {
      return catalogue.features(names, field, known);
    } catch (error) {
      // It may have been registered on another host a moment ago.
      const newest = registered!.newest(tenant);
      if (newest === known) throw error;
      return Promise.resolve(newest).then((own) => catalogue.features(names, field, own));
    }
  }
}

/**
 * A service's features, with what the tenant has registered of them; what it has not is `NOT_FOUND`.
 * @throws (or rejects with) Problem `service_unknown`, `catalogue_unavailable`
 */
export function selectService(
  catalogue: Catalogue,
  registered: RegisteredFeatures | null,
  tenant: string,
  name: string,
): Selection | Promise<Selection> {
  const { service, selection } = catalogue.service(name);
  if (service.registered === undefined || registered === null) return selection;
  const own = registered.of(tenant);
  const select = (known: TenantFeatures) => catalogue.service(name, known).selection;
  return own instanceof Promise ? own.then(select) : select(own);
}

/** A score does not wait longer for what its tenant has registered: after a host's start, and after a pause. */
const PATIENCE_MS = 100;

/**
 * The same for a score, which fails for nothing: a table that does not answer in time leaves what this host knew last.
 * @returns `fault` where that is nothing, and the service's registered features count as missing
 */
export async function selectForScore(
  catalogue: Catalogue,
  registered: RegisteredFeatures | null,
  tenant: string,
  name: string,
): Promise<{ readonly selection: Selection; readonly fault: unknown }> {
  try {
    const found = selectService(catalogue, registered, tenant, name);
    return { selection: found instanceof Promise ? await within(PATIENCE_MS, found) : found, fault: null };
  } catch (error) {
    const isOutage = error instanceof InfrastructureError || (error instanceof Problem && error.status === 503);
    if (!isOutage) throw error;
    const last = registered?.last(tenant) ?? undefined;
    return { selection: catalogue.service(name, last).selection, fault: last === undefined ? error : null };
  }
}
