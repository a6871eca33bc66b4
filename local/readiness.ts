import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { plan } from "../features/plan.ts";
import { isUnready, readinessOf, type ViewReadiness } from "../functions/shared/build-readiness.ts";
import { LOOPBACK } from "./ports.ts";

/** Views of this checkout's plan that lack some of their history. @throws InfrastructureError when the store does not answer */
export async function unreadyViews(valkeyPort: number): Promise<readonly ViewReadiness[]> {
  const connection = new ValkeyConnection({ host: LOOPBACK, port: valkeyPort });
  try {
    return (await readinessOf(new ControlHashes(connection, plan), plan)).filter(isUnready);
  } finally {
    await connection.close();
  }
}
