/**
 * The product's pages in a real browser, `make test-browser`: without a word of complaint, without any other host, readable in both
 * schemes, at any width, with the keyboard alone. FRESHET_SCREENSHOTS names a folder for pictures of them.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PROBLEMS } from "../../functions/api/problems.ts";
import { listen, type RunningServer } from "../../functions/api/server.ts";
import { ROOT, venvPython } from "../../local/home.ts";
import { train } from "../../local/sagemaker/train.ts";
import { testDependencies } from "../functions/api/doubles.ts";
import { browserProgram, openBrowser, tabStops, visit } from "./browser.ts";

const program = browserProgram();
const scratch = mkdtempSync(join(tmpdir(), "freshet-browser-"));
let browser: Browser;
let server: RunningServer;
const urls: Record<string, string> = {};

/** Its beginning: whole, the docs are too tall for a picture. */
async function shoot(page: { screenshot(options: object): Promise<unknown> }, name: string): Promise<void> {
  const folder = process.env["FRESHET_SCREENSHOTS"];
  if (folder === undefined) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

// Without a browser nothing of this can be seen, and installing one is the machine's matter: the tests are shown as skipped.
describe.skipIf(program === null)("in a browser (Chromium in PATH, or FRESHET_BROWSER)", () => {
  beforeAll(async () => {
    server = await listen({ port: 0, dependencies: testDependencies().dependencies });
    urls["the API's docs"] = `${server.url}/docs`;
    const set = join(scratch, "set");
    execFileSync(venvPython(), [join(ROOT, "test", "training", "synthetic.py"), set, "2500"]);
    const run = { trainingSet: set, hyperparameters: { num_trees: "20", card_key: "card" }, onLine: () => {} };
    const { report } = await train(scratch, { ...run, jobName: "shown" });
    urls["a model's report"] = pathToFileURL(report).href;
    browser = await openBrowser(program!);
  }, 180_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  describe.each(["the API's docs", "a model's report"])("%s", (name) => {
    it.each([
      ["light", 1280],
      ["dark", 1280],
      ["light", 360],
      ["dark", 360],
    ] as const)("in %s, %d pixels wide: nothing fails, is cut off, or is hard to read", async (scheme, width) => {
      const { context, page, complaints, requests } = await visit(browser, urls[name], { scheme, width });
      try {
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true");
        expect(complaints).toEqual([]);
        expect(requests).toEqual([urls[name]]);
        expect(await page.evaluate("checks.overflow()")).toBe(0);
        expect(await page.evaluate("checks.faintTexts()")).toEqual([]);
        await shoot(page, `${name.replaceAll(/\W+/g, "-")}-${scheme}-${width}`);
      } finally {
        await context.close();
      }
    });

    it("is for programs that read it aloud, too: language, title, one top heading, none skipped, links that lead somewhere", async () => {
      const { context, page } = await visit(browser, urls[name]);
      try {
        expect(await page.evaluate("document.documentElement.lang")).toBe("en");
        expect(await page.title()).not.toBe("");
        expect(await page.locator("h1").count()).toBe(1);
        expect(await page.evaluate("checks.skippedHeadings()")).toEqual([]);
        expect(await page.evaluate("checks.brokenAnchors()")).toEqual([]);
        expect(await page.locator("main").count()).toBe(1);
      } finally {
        await context.close();
      }
    });

    it("is used with the keyboard alone: Tab comes to each link and each fold, visibly, and Enter opens it", async () => {
      const { context, page } = await visit(browser, urls[name]);
      try {
        const stops = await tabStops(page);
        expect(stops.length).toBeGreaterThanOrEqual(await page.locator("a[href], summary").count());
        expect(stops.filter(({ isMarked }) => !isMarked)).toEqual([]);
        const fold = page.locator("details").first();
        await fold.locator("summary").focus();
        await page.keyboard.press("Enter");
        expect(await page.evaluate("document.querySelector('details').open")).toBe(true);
      } finally {
        await context.close();
      }
    });
  });

  it("the docs show every operation and every code of the OpenAPI document", async () => {
    const { context, page } = await visit(browser, urls["the API's docs"]);
    try {
      const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as { paths: Record<string, object> };
      const operations = Object.values(document.paths).flatMap((path) => Object.keys(path));
      expect(await page.locator("section").count()).toBe(operations.length);
      expect(await page.locator("#error-codes + table td:first-child").allTextContents()).toEqual(
        Object.keys(PROBLEMS),
      );
    } finally {
      await context.close();
    }
  });
});
