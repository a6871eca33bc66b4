/** What is wrong with a URL, whatever it names. */
import { Problem } from "./problems.ts";
import type { RequestContext } from "./router.ts";

/** Where the host sees the URL as it was sent: an escape that is no UTF-8 would be taken for the text of an id. */
export function isUrlReadable(c: RequestContext): boolean {
  const sent: string | undefined = c.env?.incoming?.url;
  if (sent === undefined || !sent.includes("%")) return true;
  try {
    decodeURIComponent(sent);
    return true;
  } catch {
    return false;
  }
}

export const unreadableUrl = () =>
  new Problem("url_encoding", "the URL holds an escape that is no UTF-8", {
    repair: "escape each part as UTF-8, as encodeURIComponent does; a percent sign itself is %25",
  });

export const keyInUrl = () =>
  new Problem("api_key_in_url", "the URL holds an API key, and URLs are written down on the way", {
    field: "x-api-key",
    repair: "send it in the header x-api-key alone, and rotate this one: POST /v1/keys/{id}/rotate",
  });
