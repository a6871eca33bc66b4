/** What the store does with a stream's watermark hash in one step; its fields are told in watermark.ts. */

// KEYS[1] watermark hash; ARGV[1] field, ARGV[2] arrival of the first record, ARGV[3] last sequence, ARGV[4] field of the
// bound, ARGV[5] longest move (µs), ARGV[6] event time (ms) from which on there may be events without being told, then starts of
// the base tiles of those before, ascending. Returns the stamp; false, with nothing written, while the seal passes one of them.
// What an earlier delivery that begins with the same record held beyond this one stays, under its last record.
export const REGISTER = `
local time = redis.call("TIME")
local stamp = time[1] .. string.format("%06d", time[2])
local known = redis.call("HMGET", KEYS[1], "next", "seal")
local target, at = string.match(known[1] or "", "^(%d+):(%d+)$")
if target and tonumber(stamp) - tonumber(at) >= tonumber(ARGV[5]) then target = nil end
if target and tonumber(target) > tonumber(ARGV[6]) then return false end
local seal = tonumber(known[2] or 0)
for i = 7, #ARGV do
  local start = tonumber(ARGV[i])
  if start >= seal then
    if target and start < tonumber(target) then return false end
    redis.call("HSET", KEYS[1], ARGV[4], ARGV[i] .. ":" .. stamp)
    break
  end
end
local before = redis.call("HGET", KEYS[1], ARGV[1])
local last = before and string.match(before, "^%d+:([^:]*):")
if last and (#last > #ARGV[3] or (#last == #ARGV[3] and last > ARGV[3])) then
  redis.call("HSETNX", KEYS[1], string.match(ARGV[1], "^(.*:)[^:]*$") .. last, before)
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2] .. ":" .. ARGV[3] .. ":" .. stamp)
return stamp`;

// KEYS[1] watermark hash; ARGV[1] wanted seal (ms), ARGV[2] longest move (µs), ARGV[3] age (µs) at which a batch is given up,
// ARGV[4] how much older than its arrival an event of a batch may be without being told (ms), ARGV[5] base (ms), then the shards.
// Returns the seal to move to; false while another run moves it further.
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
return target`;

// KEYS[1] watermark hash; ARGV[1] seal of all buckets (ms), ARGV[2] the announced one or empty. A move further than that is another run's.
export const SETTLE = `
redis.call("HSET", KEYS[1], "seal", ARGV[1])
local standing = string.match(redis.call("HGET", KEYS[1], "next") or "", "^(%d+):")
if standing and standing == ARGV[2] then redis.call("HDEL", KEYS[1], "next") end
return 1`;

// KEYS[1] watermark hash; ARGV[1] the new origin.
export const RESTART = `
redis.call("DEL", KEYS[1])
return redis.call("HSET", KEYS[1], "origin", ARGV[1])`;

// KEYS[1] watermark hash; ARGV fields to delete, each with the value that it must still have.
export const DROP = `
for i = 1, #ARGV, 2 do
  if redis.call("HGET", KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call("HDEL", KEYS[1], ARGV[i]) end
end
return 1`;

// KEYS[1] watermark hash; ARGV[1] field and ARGV[2] value of the committed arrival, ARGV[3] number of arguments to set, field and
// value of the rest. Then for each that is cleared its field, the value that it must still have, and where it stays from now on or
// empty: one that somebody else has cleared meanwhile stays nowhere.
export const CLEAR = `
local before = redis.call("HGET", KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > tonumber(before or 0) then redis.call("HSET", KEYS[1], ARGV[1], ARGV[2]) end
local set = tonumber(ARGV[3])
local kept = {}
for i = 4 + set, #ARGV, 3 do
  if redis.call("HGET", KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call("HDEL", KEYS[1], ARGV[i])
    if ARGV[i + 2] ~= "" then kept[#kept + 1] = i end
  end
end
for _, i in ipairs(kept) do redis.call("HSETNX", KEYS[1], ARGV[i + 2], ARGV[i + 1]) end
if set > 0 then redis.call("HSET", KEYS[1], ARGV[4], ARGV[5]) end
return 1`;
