import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { isUnready, readinessOf, type ViewReadiness } from "../functions/shared/build/build-readiness.ts";
import { LOOPBACK } from "./ports.ts";

/** Views of this checkout's plan that lack some of their history. @throws InfrastructureError when the store does not answer */
export async function unreadyViews(valkeyPort: number): Promise<readonly ViewReadiness[]> {
  // Loaded here: `freshet plan` reaches this file while it mends a lock file that the plan cannot be made from.
  const { plan } = await import("../features/plan.ts");
  const connection = new ValkeyConnection({ host: LOOPBACK, port: valkeyPort });
  try {
    return (await readinessOf(new ControlHashes(connection, plan), plan)).filter(isUnready);
  } finally {
    await connection.close();
  }
}
