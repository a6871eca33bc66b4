/** Keeps API keys out of what is written down: URLs, errors, logs, names. */

/** A key, or the beginning of one that was cut off: whoever reads it has a part of a secret. */
const KEY_WITHIN = /fk_([a-z0-9]{12})_[A-Za-z0-9-]+/g;

export const holdsKey = (text: string): boolean => text.includes("fk_") && text.search(KEY_WITHIN) >= 0;

/** The text with every key's secret cut out. */
export const withoutKeys = (text: string): string =>
  text.includes("fk_") ? text.replace(KEY_WITHIN, "fk_$1_(secret)") : text;

/** What is encoded deeper than this, nobody decodes by mistake. */
const MAX_DECODED = 8;

/** Also where it is percent-encoded, and that again. */
export function urlHoldsKey(url: string): boolean {
  let text = url;
  for (let i = 0; i <= MAX_DECODED; i++) {
    if (holdsKey(text)) return true;
    if (!text.includes("%")) return false;
    // Escapes that are no UTF-8 hide no key, and must not hide one beside them.
    text = text.replace(/%([2-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
  return false;
}
