import type { BrokerSettings } from "../adapters/broker/open-broker.ts";
import { brokerFromEnvironment } from "../functions/shared/broker.ts";
import { clientConfig } from "./deploy.ts";
import type { Deployment } from "./state.ts";

/** The broker that the laptop's deployment has, as its functions are told. */
export const laptopBroker = (emulator: number, { environment }: Pick<Deployment, "environment">): BrokerSettings =>
  brokerFromEnvironment(clientConfig(emulator), environment);
