/** `make test-registry`: what needs a real schema registry, and Java for it. */
import { conclude, vitest } from "./tally.ts";

const started = performance.now();
conclude([await vitest(["registry"])], started);
