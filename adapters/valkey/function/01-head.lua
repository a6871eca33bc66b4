-- The store's server-side function: checks identities and folds events into base tiles, once, in one step.
-- The files of this folder are one chunk, joined in the order of their names: what one declares, the later ones see.
--
-- Loaded as a Valkey Functions library whose name carries the layout's hash; `--@SPEC@` below is replaced by the plan's
-- groups as a Lua table (adapters/valkey/function-source.ts). All layouts are written down in adapters/valkey/layout.ts.
--
--   apply   KEYS  control hash of the bucket, then one entity hash for each ARGV from the second on, all of one slot
--           ARGV  [1] u32 epoch, 8 bytes of the primary's run id, u8 1 for a replay: allowed while restoring
--                 [k] group id (u8), then for each base tile its index (u32), number of records (u16) and their bytes
--                     (u32), then the records: identity (8), offset in the tile in ms (u32), mask of present channels
--                     (u32), and for each present channel what its slots need, in this order: value (f64), square hi
--                     and lo (f64, f64), hash (4, big-endian), bucket (u16), object (u16 length, bytes)
--   touch   KEYS  as for apply      ARGV  [1] as for apply   [k] group id (u8): folds, sweeps and prunes without an event
--   put     KEYS  as for apply
--           ARGV  [1] as for apply
--                 [k] group id (u8), the seal that it was built for (u32 base index), generation (f64), u8 1 when it holds
--                     the whole lifetime, first base index that it covers (u32), newest event time below the seal (f64,
--                     -1 for none), then all fields of the entity below the seal: name (u8 length, bytes), value (u32
--                     length, bytes)
--   push    KEYS  control hash of the bucket, then a hash of pushed values for each ARGV from the second on
--           ARGV  [1] as for apply
--                 [k] when the key may go (f64, ms), newest event time in it (f64), then for each view its name (u8
--                     length, bytes) and its values packed (u32 length, bytes)
--   erase   KEYS  as for apply, of windows and of pushed values
--           ARGV  [1] as for apply
--                 [k] group id (u8, 0 for pushed values), time before which nothing may count any more (f64, ms), when the
--                     tombstone may go (f64, ms; -1: never), u8 1 when the archive holds nothing of it any more
--
-- Result of all: { code, detail, outcome for each key ... }. code > 0 is the store's clock in ms, detail is 1 while
-- a failover is not cleared or the store is being restored. Outcomes are left out when every record was applied; else, for each record: 0 applied,
-- 1 and u32 (first apply time modulo 2^32) duplicate, 2 sealed, 3 erased. Of a put, for each key: empty when it was put, 1 the bucket's seal is another one, 2 something as new
-- has been put or repaired already, 3 nothing may be folded now, 4 erased, and the archive may still hold it. Of a mend, for each key: empty when there were identities alone, 1 somebody
-- has put or repaired since, 2 nothing may be folded now; else 0, and for each record 0 repaired, 1 and fingerprint and visible time
-- (4, f64) repaired before, 2 not sealed, 3 left to a build that is not complete, 4 erased. Of a push, for each key: empty, 1 when it is
-- too far ahead of the store's clock, or 2 when it is erased. Of an erasure, for each key: the number of fields that went (u32). Negative codes are in
-- adapters/valkey/replies.ts.

--@SPEC@

-- While a library loads, none of Lua's own libraries can be seen: the first call binds what the rest uses.
local call, pack, unpackStruct, unpackTable, byte, char, sub, find, rep, floor, min, max, concat, insert, huge
local LOW = 1099511627776 -- 2^40: the low part of a wide sum
local CHUNK_LIMIT = 4096 -- bytes of one field of identities
local ID_BYTES = 12
local LOST, EPOCH, NOT_READY, GROUP_UNKNOWN, GROUP_NEW = -1, -2, -3, -4, -5
local STATE_OK, STATE_RESTORING, STATE_FAILOVER = 1, 2, 3
local CONTROL_FIELDS = { "c" } -- of a bucket's control hash: its state, then every group
local COUNT, SUM, SQUARES, MINIMUM, MAXIMUM = 1, 2, 3, 4, 5
-- Size class of a cell by the upper two bits of its slot id, so that tiles of a newer plan can be kept whole.
local CLASS_FORMAT = { [0] = "I5", [1] = "d", [2] = "i4I5", [3] = "I7I5" }
local CLASS_BYTES = { [0] = 5, [1] = 8, [2] = 9, [3] = 12 }
local CLASS_EMPTY = { [0] = { 0 }, [2] = { 0, 0 }, [3] = { 0, 0 } }
local WIDE = { [0] = false, [1] = false, [2] = true, [3] = true }
-- Greatest high part of a wide cell. A sum of squares stays there once it has come so far: it is served as null from 2^53 on.
local WIDE_LIMIT = { [2] = 2147483647, [3] = 9007199254740992 }

local function class(id) return floor(id / 64) end
local function field(level, index) return pack(">BI4", level, index) end
local function objectField(slot, level, index) return pack(">c1BBI4", "s", slot, level, index) end
local function idsField(index) return pack(">c1I4", "i", index) end
local function chunkField(index, chunk) return pack(">c1I4B", "i", index, chunk) end
