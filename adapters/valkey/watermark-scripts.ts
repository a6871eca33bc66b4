/** What the store does with a stream's watermark hash in one step; its fields are told in watermark.ts. */

// What was registered or cleared last of a shard, and how far. `now` grows with each of these, even where the server's clock went back.
const NEWEST = `
local function newest(shard)
  local sequence, at = string.match(redis.call("HGET", KEYS[1], "t:" .. shard) or "", "^(.*):(%d+)$")
  return sequence or "", tonumber(at or 0)
end
local function reaches(a, b) return #a > #b or (#a == #b and a >= b) end
local function stamped(at)
  local time = redis.call("TIME")
  return string.format("%.0f", math.max(time[1] * 1000000 + time[2], at + 1))
end
local function note(shard, sequence, known, stamp)
  if reaches(known, sequence) then sequence = known end
  redis.call("HSET", KEYS[1], "t:" .. shard, sequence .. ":" .. stamp)
end`;

// KEYS[1] watermark hash; ARGV[1] shard, ARGV[2] first sequence, ARGV[3] arrival of the first record, ARGV[4] last sequence, ARGV[5] the
// newest stamp that the sender knew, ARGV[6] longest move (µs), ARGV[7] event time (ms) from which on there may be events without being
// told, then starts of the base tiles of those before, ascending. Returns 1 and the stamp; with nothing written 0 while the seal passes one
// of these, and -1 with the newest stamp where somebody has worked on these records since the sender last heard of this hash: it may be dead.
// What an earlier delivery that begins with the same record held beyond this one stays, under its last record.
export const REGISTER = `${NEWEST}
local shard, first, last = ARGV[1], ARGV[2], ARGV[4]
local known, at = newest(shard)
if at > tonumber(ARGV[5]) and reaches(known, first) then return {-1, string.format("%.0f", at)} end
local stamp = stamped(at)
local moves = redis.call("HMGET", KEYS[1], "next", "seal")
local target, begun = string.match(moves[1] or "", "^(%d+):(%d+)$")
if target and tonumber(stamp) - tonumber(begun) >= tonumber(ARGV[6]) then target = nil end
if target and tonumber(target) > tonumber(ARGV[7]) then return {0} end
local seal = tonumber(moves[2] or 0)
for i = 8, #ARGV do
  local start = tonumber(ARGV[i])
  if start >= seal then
    if target and start < tonumber(target) then return {0} end
    redis.call("HSET", KEYS[1], "b:" .. shard .. ":" .. last, ARGV[i] .. ":" .. stamp)
    break
  end
end
local field = "o:" .. shard .. ":" .. first
local before = redis.call("HGET", KEYS[1], field)
local held = before and string.match(before, "^%d+:([^:]*):")
if held and not reaches(last, held) then redis.call("HSETNX", KEYS[1], "o:" .. shard .. ":" .. held, before) end
redis.call("HSET", KEYS[1], field, ARGV[3] .. ":" .. last .. ":" .. stamp)
note(shard, reaches(last, first) and last or first, known, stamp)
return {1, stamp}`;

// KEYS[1] watermark hash; ARGV[1] wanted seal (ms), ARGV[2] longest move (µs), ARGV[3] age (µs) at which a batch is given up,
// ARGV[4] how much older than its arrival an event of a batch may be without being told (ms), ARGV[5] base (ms), then the shards.
// Returns the seal to move to and the stamp; false while another run moves it further.
export const ANNOUNCE = `
local time = redis.call("TIME")
local stamp = time[1] .. string.format("%06d", time[2])
local target, wanted = ARGV[1], tonumber(ARGV[1])
local shards = {}
for i = 6, #ARGV do shards[ARGV[i]] = true end
local flat = redis.call("HGETALL", KEYS[1])
for i = 1, #flat, 2 do
  local kind, bound, at = string.sub(flat[i], 1, 2), nil, nil
  if kind == "b:" then bound, at = string.match(flat[i + 1], "^(%d+):(%d+)$")
  elseif kind == "o:" and shards[string.match(flat[i], "^o:(.*):[^:]*$")] then
    bound, at = string.match(flat[i + 1], "^(%d+):[^:]*:(%d+)$")
    local oldest = tonumber(bound) - tonumber(ARGV[4])
    bound = string.format("%.0f", oldest - oldest % tonumber(ARGV[5]))
  end
  if bound and tonumber(bound) < wanted and tonumber(stamp) - tonumber(at) < tonumber(ARGV[3]) then
    target, wanted = bound, tonumber(bound)
  end
end
local standing, at = string.match(redis.call("HGET", KEYS[1], "next") or "", "^(%d+):(%d+)$")
if standing and tonumber(standing) > wanted and tonumber(stamp) - tonumber(at) < tonumber(ARGV[2]) then return false end
redis.call("HSET", KEYS[1], "next", target .. ":" .. stamp)
return {target, stamp}`;

// KEYS[1] watermark hash; ARGV[1] seal of all buckets (ms), ARGV[2] the announced one or empty. A move further than that is another run's.
export const SETTLE = `
redis.call("HSET", KEYS[1], "seal", ARGV[1])
local standing = string.match(redis.call("HGET", KEYS[1], "next") or "", "^(%d+):")
if standing and standing == ARGV[2] then redis.call("HDEL", KEYS[1], "next") end
return 1`;

// KEYS[1] watermark hash; ARGV[1] the new origin. What was worked on last stays: who was at it before may still be heard of.
export const RESTART = `
for _, field in ipairs(redis.call("HKEYS", KEYS[1])) do
  if string.sub(field, 1, 2) ~= "t:" then redis.call("HDEL", KEYS[1], field) end
end
return redis.call("HSET", KEYS[1], "origin", ARGV[1])`;

// KEYS[1] watermark hash; ARGV fields to delete, each with the value that it must still have.
export const DROP = `
for i = 1, #ARGV, 2 do
  if redis.call("HGET", KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call("HDEL", KEYS[1], ARGV[i]) end
end
return 1`;

// KEYS[1] watermark hash; ARGV[1] shard, ARGV[2] its committed arrival, ARGV[3] the last sequence that is acknowledged or empty, ARGV[4]
// number of arguments to set, field and value of the rest. Then for each that is cleared its field, the value that it must still have, and
// where it stays from now on or empty: one that somebody else has cleared meanwhile stays nowhere. Returns a stamp.
export const CLEAR = `${NEWEST}
local committed = "c:" .. ARGV[1]
if tonumber(ARGV[2]) > tonumber(redis.call("HGET", KEYS[1], committed) or 0) then
  redis.call("HSET", KEYS[1], committed, ARGV[2])
end
local set = tonumber(ARGV[4])
local kept = {}
for i = 5 + set, #ARGV, 3 do
  if redis.call("HGET", KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call("HDEL", KEYS[1], ARGV[i])
    if ARGV[i + 2] ~= "" then kept[#kept + 1] = i end
  end
end
for _, i in ipairs(kept) do redis.call("HSETNX", KEYS[1], ARGV[i + 2], ARGV[i + 1]) end
if set > 0 then redis.call("HSET", KEYS[1], ARGV[5], ARGV[6]) end
local known, at = newest(ARGV[1])
local stamp = stamped(at)
note(ARGV[1], ARGV[3], known, stamp)
return stamp`;
