/** Where the contract is read: as a document and as a page. Both are open to all, who may ask as often as they like, so their texts are kept. */
import type { Plan } from "../../../core/plan.ts";
import { PROBLEMS } from "../problems.ts";
import type { Register } from "../router.ts";

export function registerDocuments(register: Register, plan: Plan, version: string): void {
  // Loaded on first use: schemas and their library are of no use to any other call.
  let document: Promise<object> | undefined;
  const openApi = () => {
    document ??= import("./openapi.ts").then((module) => module.createOpenApiDocument(plan, version));
    return document;
  };
  let json: Promise<string> | undefined;
  register("GET", "/openapi.json", null, async () => {
    json ??= openApi().then((found) => JSON.stringify(found));
    return { status: 200, body: await json };
  });
  let page: Promise<string> | undefined;
  register("GET", "/docs", null, async () => {
    page ??= import("./docs-page.ts").then(async ({ docsPage }) => docsPage(await openApi(), PROBLEMS));
    return {
      status: 200,
      body: await page,
      contentType: "text/html; charset=utf-8",
      headers: { "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'" },
    };
  });
}
