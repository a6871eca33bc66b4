import { expect, it } from "vitest";
import { definitions } from "../../../../features/index.ts";
import { type BuildPorts, buildForTraining } from "../../../../functions/shared/training/training-set-build.ts";

it.each([
  ["from", { from: "2026-11-01T06:00:00" }],
  ["to", { to: "2026-02-30" }],
])("a training set is not begun with a time that the machine's zone would decide: %s", async (field, range) => {
  const { services } = definitions;
  const ports = { plan: { services }, services } as unknown as BuildPorts;
  await expect(buildForTraining(ports, { service: "fraud", ...range } as never, "e1")).rejects.toMatchObject({
    code: "time_invalid",
    field,
    message: expect.stringContaining("a day or a time with its zone"),
    repair: "give it as 2026-11-01 or 2026-11-01T06:00:00Z",
  });
});

it("a training set is not begun when from_log is neither true nor false", async () => {
  const { services } = definitions;
  const ports = { plan: { services }, services } as unknown as BuildPorts;
  const input = { service: "fraud", from_log: "false" } as never;
  await expect(buildForTraining(ports, input, "e1")).rejects.toMatchObject({
    code: "from_log_invalid",
    message: "from_log is true or false (given: false)",
  });
});
