import { checkServices } from "../core/scoring/scoring.ts";

/**
 * Compiles what features/ declares, as every part of the app will: a mistake is told here, at once and in its own words,
 * instead of out of the log of the CDK.
 * @throws DefinitionError
 */
export async function checkDefinitions(): Promise<void> {
  const { definitions } = await import("../features/index.ts");
  const { plan } = await import("../features/plan.ts");
  checkServices(plan, definitions.services);
}
