/** What a tenant's administrators ask for: keys, erasures, the audit log, the quarantine, rebuilds. */
import type { ApiDependencies } from "../app.ts";
import { createKeyHandlers } from "../keys/key-routes.ts";
import type { Authenticator } from "../keys/keys.ts";
import type { Register } from "../router.ts";
import { createAuditHandler } from "./audit.ts";
import { createErasureHandlers } from "./erasures.ts";
import { createQuarantineHandlers, GROUP_PARAMETERS, RECORD_PARAMETERS } from "./quarantine.ts";
import { createRebuildHandlers } from "./rebuild.ts";

type Dependencies = Pick<ApiDependencies, "plan" | "keys" | "audit" | "erasures" | "quarantine" | "rebuild" | "clock">;

export function registerAdministration(register: Register, deps: Dependencies, authenticate: Authenticator): void {
  const { plan, clock } = deps;
  if (deps.audit !== null) {
    register("GET", "/v1/audit", "admin", createAuditHandler(deps.audit), {
      audit: "audit.read",
      parameters: ["limit", "before"],
    });
    const keys = createKeyHandlers({ keys: deps.keys, authenticate, clock });
    register("POST", "/v1/keys", "admin", keys.create, { audit: "keys.create" });
    register("GET", "/v1/keys", "admin", keys.list, { audit: "keys.list" });
    register("POST", "/v1/keys/:id/rotate", "admin", keys.rotate, { audit: "keys.rotate" });
    register("DELETE", "/v1/keys/:id", "admin", keys.revoke, { audit: "keys.revoke", auditKind: "urgent" });
  }
  if (deps.audit !== null && deps.erasures !== null) {
    const erasing = createErasureHandlers({ plan, erasures: deps.erasures, clock });
    register("POST", "/v1/erasures", "admin", erasing.create, { audit: "erasures.create" });
    register("GET", "/v1/erasures", "admin", erasing.list, { audit: "erasures.list", parameters: ["limit"] });
    register("GET", "/v1/erasures/:id", "admin", erasing.one, { audit: "erasures.show" });
  }
  if (deps.quarantine !== null) {
    const quarantine = createQuarantineHandlers({ plan, ports: deps.quarantine, clock });
    register("GET", "/v1/quarantine", "admin", quarantine.groups, {
      audit: "quarantine.list",
      parameters: GROUP_PARAMETERS,
    });
    register("GET", "/v1/quarantine/records", "admin", quarantine.records, {
      audit: "quarantine.list",
      parameters: RECORD_PARAMETERS,
    });
    register("GET", "/v1/quarantine/jobs/:job", "admin", quarantine.job, { audit: "quarantine.job" });
    // After the two above, whose paths fit too.
    register("GET", "/v1/quarantine/:id", "admin", quarantine.show, { audit: "quarantine.show" });
    register("POST", "/v1/quarantine/replay", "admin", quarantine.replay, { audit: "quarantine.replay" });
    register("POST", "/v1/quarantine/drop", "admin", quarantine.drop, { audit: "quarantine.drop" });
  }
  if (deps.rebuild !== null) {
    const rebuild = createRebuildHandlers({ plan, ports: deps.rebuild, clock });
    register("DELETE", "/v1/cache/:entity/:id", "admin", rebuild.one, { audit: "cache.rebuild" });
    register("DELETE", "/api/v1/cache/invalidate/:id", "admin", rebuild.every, { audit: "cache.rebuild" });
  }
}
