/** The contract of brokers on Kinesis. What is killed there, and how, is in faults.system.test.ts, which every `make test` runs. */
import { brokerContract } from "./broker-contract.ts";

brokerContract("Kinesis", []);
