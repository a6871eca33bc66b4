/** The compiled plan of this app. The lock file beside it holds the ids that stored bytes carry. */
import { hash64 } from "../adapters/hash.ts";
import { canonicalJson, compile, type Lock } from "../core/compile/compile.ts";
import { DefinitionError } from "../core/errors.ts";
import { contracts } from "../schemas/contracts.ts";
import { definitions } from "./index.ts";
import recorded from "./plan.lock.json" with { type: "json" };

const compiled = compile(definitions, contracts, recorded as Lock, hash64);
if (canonicalJson(compiled.lock) !== canonicalJson(recorded)) {
  throw new DefinitionError("plan_lock_stale", "features/ declares what features/plan.lock.json has no ids for", {
    repair: "run `freshet plan --write`, review the lock file's change and commit it",
  });
}
export const { plan, lock } = compiled;
