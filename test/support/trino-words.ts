import { expect } from "vitest";

/** Trino's words that DuckDB, which the emulator's Athena answers with, has others for. All else of a text is run as it is. */
export function inDuckWords(sql: string): string {
  const said = sql
    .replaceAll("CROSS JOIN UNNEST(a.fates) AS f(entity, id, fate, visible_ms)", "CROSS JOIN UNNEST(a.fates) AS u(f)")
    .replaceAll(
      /none_match\(a\.fates, each -> (each\.entity = '\w+')\)/g,
      "len(list_filter(a.fates, lambda each: $1)) = 0",
    )
    .replaceAll("cardinality(a.fates)", "len(a.fates)")
    .replaceAll(
      "array_min(filter(transform(a.fates, each -> each.visible_ms), each -> each IS NOT NULL))",
      "list_min(list_transform(a.fates, lambda each: each.visible_ms))",
    )
    .replaceAll("crc32(to_utf8(event.id))", "hash(event.id)");
  expect(said).not.toMatch(/none_match|cardinality|array_min|to_utf8|->/);
  expect(said.match(/UNNEST/g)?.length).toBe(said.match(/AS u\(f\)/g)?.length);
  return said;
}
