/** A real browser, where this machine has one: Chromium by its usual names, or what FRESHET_BROWSER names. */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** @returns path of its program; null where there is none */
export function browserProgram(): string | null {
  const given = process.env["FRESHET_BROWSER"];
  if (given !== undefined && given !== "") return given;
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const found = folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find(isProgram);
  return found ?? null;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Without a sandbox, which containers refuse: it is shown this product's own pages alone, and reaches nothing else. */
export const openBrowser = (program: string): Promise<Browser> =>
  chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-gpu"] });

export interface Visit {
  readonly context: BrowserContext;
  readonly page: Page;
  /** What the console and the page complain of. */
  readonly complaints: string[];
  /** Addresses that were asked for, the page's own first. */
  readonly requests: string[];
}

/** Opens a page; whatever it asks of another host fails. */
export async function visit(
  browser: Browser,
  url: string,
  { width = 1280, scheme = "light" }: { width?: number; scheme?: "light" | "dark" } = {},
): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme });
  await context.addInitScript({ path: join(import.meta.dirname, "page-checks.js") });
  const page = await context.newPage();
  const [complaints, requests]: [string[], string[]] = [[], []];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("requestfailed", (request) => complaints.push(`failed: ${request.url()}`));
  const { origin } = new URL(url);
  await context.route("**", (route) => {
    requests.push(route.request().url());
    return new URL(route.request().url()).origin === origin ? route.continue() : route.abort();
  });
  await page.goto(url, { waitUntil: "load" });
  return { context, page, complaints, requests };
}

/** Presses Tab through the whole page. @returns what had the focus, in order, and whether one saw it */
export async function tabStops(page: Page, most = 2_000): Promise<{ name: string; isMarked: boolean }[]> {
  const stops: { name: string; isMarked: boolean }[] = [];
  while (stops.length < most) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate<{ name: string; isMarked: boolean } | null>("checks.focused()");
    if (stop === null) break;
    stops.push(stop);
  }
  return stops;
}
