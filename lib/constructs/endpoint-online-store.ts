import type { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";

/** A Valkey that is already there, plaintext and without users: for a laptop whose emulator has no ElastiCache. */
export class EndpointOnlineStore implements OnlineStore {
  readonly placement = {};
  private readonly host: string;
  private readonly port: string;

  constructor(host: string, port: string) {
    this.host = host;
    this.port = port;
  }

  grantRead(fn: NodeFunction): void {
    this.grantReadWrite(fn);
  }

  grantReadWrite(fn: NodeFunction): void {
    fn.set("valkeyHost", this.host);
    fn.set("valkeyPort", this.port);
    fn.set("valkeyTls", "0");
    fn.set("valkeyCluster", "0");
  }

  watch(): void {}
}
