/** Row "score" of DESIGN §13, with rules: models come later. */
import type { Benchmark } from "./benchmark.ts";
import { CASES, measureCase } from "./online.ts";
import { openStage } from "./reading.ts";

export const benchmark: Benchmark = {
  title: "Score by rules over HTTP, as `freshet serve`, keep-alive",
  async run(options) {
    const stage = await openStage(options);
    try {
      return await measureCase(stage, CASES.score, options);
    } finally {
      await stage.close();
    }
  },
};
