/** Times as Feast writes and reads them. */
/** As JSON: RFC 3339 in UTC with no fraction or milliseconds; the epoch for no time. */
export function feastTime(ms: number | null): string {
  if (ms === null) return '"1970-01-01T00:00:00Z"';
  const text = new Date(ms).toISOString();
  return text.endsWith(".000Z") ? `"${text.slice(0, -5)}Z"` : `"${text}"`;
}
