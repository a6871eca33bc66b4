/** Scores over HTTP: by rules, and row "score, 4 entities + ONNX" of DESIGN §13. */
import type { Benchmark } from "./benchmark.ts";
import { CASES, measureCase } from "./online.ts";
import { openStage } from "./reading.ts";
import { measureModel } from "./score-model.ts";

export const benchmark: Benchmark = {
  title: "Scores over HTTP, as `freshet serve`, keep-alive",
  async run(options) {
    const stage = await openStage(options);
    try {
      return [...(await measureCase(stage, CASES.score, options)), ...(await measureModel(stage, options))];
    } finally {
      await stage.close();
    }
  },
};
