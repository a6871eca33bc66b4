import type { Plan } from "../core/plan.ts";

/** Whether ingest looks fields up in the online store. Then it runs in the store's network, which gets a way to Kinesis. */
export const ingestReadsStore = ({ streams }: Plan): boolean => streams.some(({ enrich }) => enrich !== undefined);
