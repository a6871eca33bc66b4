/** What the two users of the online store may do, as Valkey access strings. Tried against a real server in the tests. */

/** What a client does to find its way about the cluster; `info` tells a failover by the primary's run id. */
const CLUSTER_COMMANDS = "+info +time +cluster|slots +cluster|shards +cluster|nodes +cluster|myid";

/**
 * Reads keys, by the server's own word, and keeps the token buckets of tenants (`{l:…}`), which live for seconds. A script
 * may do no more than who runs it.
 */
export const READER_ACCESS = `on %R~* %RW~{l:* -@all +@connection +@read +fcall_ro +hset +pexpireat +eval +evalsha -@dangerous ${CLUSTER_COMMANDS}`;

/**
 * Hash commands, expiry and the function library; nothing that drops a database or all libraries. Keys may be dropped: a
 * restore removes what an older epoch left (an expiry in the past would do the same).
 */
export const WRITER_ACCESS = `on ~* -@all +@connection +@read +@hash +@scripting +pexpireat +persist +del +unlink -@dangerous -function|flush -function|restore -script|flush ${CLUSTER_COMMANDS}`;
