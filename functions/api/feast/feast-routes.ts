/** The addresses of Feast's own server, with its forms of errors. */
import type { Plan } from "../../../core/plan.ts";
import type { WriteLedger } from "../administration/write-ledger.ts";
import type { Pusher } from "../registered/pusher.ts";
import type { RegisteredFeatures } from "../registered/tenant-features.ts";
import type { Register } from "../router.ts";
import { feastError } from "./errors.ts";
import { createFeastMaterialize, type MaterializePorts } from "./materialize.ts";
import { createFeastOnline } from "./online.ts";
import { createFeastWrites } from "./write.ts";

type Dependencies = Parameters<typeof createFeastOnline>[0] & {
  readonly plan: Plan;
  readonly writes: WriteLedger | undefined;
  /** Null for a host without registered features. */
  readonly pushing: { readonly registered: RegisteredFeatures; readonly pusher: Pusher } | null;
  /** Null for a host that cannot have batch views run. */
  readonly materialize: MaterializePorts | null;
};

// Feast's own server takes any.
const FEASTS = { errors: feastError, parameters: "any" } as const;
const ITSELF = { ...FEASTS, charges: "itself" } as const;

export function registerFeast(register: Register, deps: Dependencies): void {
  const { plan, catalogue, writes, pushing, observations, clock } = deps;
  register("POST", "/get-online-features", "read", createFeastOnline(deps), ITSELF);
  if (pushing !== null) {
    const feast = createFeastWrites({ ...pushing, catalogue, writes, observations });
    register("POST", "/push", "write", feast.push, ITSELF);
    register("POST", "/write-to-online-store", "write", feast.write, ITSELF);
  }
  if (deps.materialize !== null) {
    const materialize = createFeastMaterialize({ plan, ports: deps.materialize, clock });
    const options = { ...FEASTS, audit: "features.materialize" };
    register("POST", "/materialize", "admin", materialize.range, options);
    register("POST", "/materialize-incremental", "admin", materialize.incremental, options);
  }
}
