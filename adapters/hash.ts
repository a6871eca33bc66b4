import { hash } from "node:crypto";

/**
 * First 64 bits of SHA-256 of UTF-8 text, as 16 hex digits. The one hash of stored and compared values: Node, DuckDB and
 * Athena all compute it.
 */
export const hash64 = (text: string): string => hash("sha256", text, "hex").slice(0, 16);
