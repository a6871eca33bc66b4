/** Calls of this machine's API by commands. */
import { FreshetError } from "../core/errors.ts";

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
