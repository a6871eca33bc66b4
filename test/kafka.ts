/** Everything that needs a Kafka, and Kinesis under the same contract, with one line at the end that sums it up. */
import { conclude, vitest } from "./tally.ts";

const started = performance.now();
conclude([await vitest(["kafka"]), await vitest(["kafka-system"]), await vitest(["kinesis-system"])], started);
