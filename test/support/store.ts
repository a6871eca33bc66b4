/** A store on a real Valkey with open control hashes, for one test file. */
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { birthsOf, ControlHashes } from "../../adapters/valkey/control.ts";
import type { Plan } from "../../core/plan.ts";

export interface TestStore {
  readonly connection: ValkeyConnection;
  readonly applier: StoreApplier;
  readonly controls: ControlHashes;
  /** Moves the seal of every group. */
  seal(sealMs: number): Promise<void>;
}

export async function openStore(
  plan: Plan,
  at: { host: string; port: number },
  sealMs = 0,
  epoch = 1,
): Promise<TestStore> {
  const connection = new ValkeyConnection({ host: at.host, port: at.port });
  const controls = new ControlHashes(connection, plan);
  const all = (ms: number) => new Map(plan.groups.map((g) => [g.name, { sealMs: ms, births: birthsOf(g, 0) }]));
  await controls.create(epoch, all(sealMs));
  await controls.setState(epoch, ["new"], "ok");
  return {
    connection,
    controls,
    applier: new StoreApplier(connection, plan, epoch),
    seal: async (ms) => {
      for (const group of plan.groups) await controls.putGroup(group, { sealMs: ms, births: birthsOf(group, 0) });
    },
  };
}
