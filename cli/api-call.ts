/** Calls of the API by commands: this machine's, a stage's, or one at any address. */
import { Option } from "commander";
import { FreshetError } from "../core/errors.ts";
import { freshetHome } from "../local/home.ts";
import { serveUrl } from "../local/parts.ts";
import { openDeployment, type StageOption } from "./deployment.ts";
import { requireRunning } from "./running.ts";

export interface ApiOptions extends StageOption {
  readonly url?: string;
}

export const urlOption = (): Option =>
  new Option("--url <address>", "an API elsewhere, as a container's or one behind a domain of yours");

/** Of calls to elsewhere. Not an option: what is typed stays in the shell's history. */
const KEY_VARIABLE = "FRESHET_API_KEY";

/**
 * @returns where the API is, without a slash at its end, and a key for it
 * @throws FreshetError `api_key_missing`, `not_running`, and those of `openDeployment`
 */
export async function openApi({ stage, url }: ApiOptions): Promise<{ readonly url: string; readonly key: string }> {
  if (stage === undefined && url === undefined) {
    const { ports, apiKey } = requireRunning(freshetHome());
    return { url: serveUrl(ports.serve), key: apiKey };
  }
  const key = process.env[KEY_VARIABLE] ?? "";
  if (key === "") {
    throw new FreshetError(
      "api_key_missing",
      `${KEY_VARIABLE} is not set, and calls of a stage or another address need a key`,
      {
        repair: `make one with freshet keys create, and set ${KEY_VARIABLE}`,
      },
    );
  }
  const address = url ?? (await openDeployment({ stage })).apiUrl;
  return { url: address.replace(/\/+$/, ""), key };
}

/**
 * @param url of the host, with the path
 * @param body sent by POST; a GET without one
 * @throws FreshetError `api_unreachable`, and what the API answers: its code, words, field and repair
 */
export async function callApi(url: string, key: string, body?: unknown): Promise<any> {
  const response = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    headers: { "content-type": "application/json", "x-api-key": key },
    body: body === undefined ? undefined : JSON.stringify(body),
  }).catch((cause: unknown) => {
    throw new FreshetError("api_unreachable", `no answer from ${url}`, { repair: "run `freshet health`", cause });
  });
  const answer = (await response.json()) as any;
  if (response.ok) return answer;
  throw new FreshetError(answer.code ?? "api_failed", answer.detail ?? `the API answered ${response.status}`, {
    field: answer.field,
    repair: answer.repair,
  });
}
