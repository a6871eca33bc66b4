/** What the two users of the online store may do, as Valkey access strings. Tried against a real server in the tests. */

/** What a client does to find its way about the cluster; `info` tells a failover by the primary's run id. */
const CLUSTER_COMMANDS = "+info +time +cluster|slots +cluster|shards +cluster|nodes +cluster|myid";

/** Reads keys and nothing else, by the server's own word. */
export const READER_ACCESS = `on %R~* -@all +@connection +@read +fcall_ro -@dangerous ${CLUSTER_COMMANDS}`;

/**
 * Hash commands, expiry and the function library; nothing that drops a database or all libraries. Keys may be dropped: a
 * restore removes what an older epoch left (an expiry in the past would do the same).
 */
export const WRITER_ACCESS = `on ~* -@all +@connection +@read +@hash +@scripting +pexpireat +persist +del +unlink -@dangerous -function|flush -function|restore -script|flush ${CLUSTER_COMMANDS}`;
