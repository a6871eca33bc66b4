/** What the store does with a stream's watermark hash in one step; its fields are told in watermark.ts. */

// KEYS[1] watermark hash; ARGV[1] field, ARGV[2] arrival of the first record, ARGV[3] last sequence, ARGV[4] field of the
// bound, ARGV[5] longest move (µs), then starts of late events' base tiles, ascending. Returns the stamp; false, with nothing
// written, while the seal passes one of them.
export const REGISTER = `
local time = redis.call("TIME")
local stamp = time[1] .. string.format("%06d", time[2])
if #ARGV > 5 then
  local seal = tonumber(redis.call("HGET", KEYS[1], "seal") or 0)
  for i = 6, #ARGV do
    local start = tonumber(ARGV[i])
    if start >= seal then
      local target, at = string.match(redis.call("HGET", KEYS[1], "next") or "", "^(%d+):(%d+)$")
      if target and start < tonumber(target) and tonumber(stamp) - tonumber(at) < tonumber(ARGV[5]) then return false end
      redis.call("HSET", KEYS[1], ARGV[4], ARGV[i] .. ":" .. stamp)
      break
    end
  end
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2] .. ":" .. ARGV[3] .. ":" .. stamp)
return stamp`;

// KEYS[1] watermark hash; ARGV[1] wanted seal (ms), ARGV[2] longest move (µs), ARGV[3] age (µs) at which a batch is given up.
// Returns the seal to move to; false while another run moves it further.
export const ANNOUNCE = `
local time = redis.call("TIME")
local stamp = time[1] .. string.format("%06d", time[2])
local target, wanted = ARGV[1], tonumber(ARGV[1])
local flat = redis.call("HGETALL", KEYS[1])
for i = 1, #flat, 2 do
  if string.sub(flat[i], 1, 2) == "b:" then
    local bound, at = string.match(flat[i + 1], "^(%d+):(%d+)$")
    if tonumber(bound) < wanted and tonumber(stamp) - tonumber(at) < tonumber(ARGV[3]) then
      target, wanted = bound, tonumber(bound)
    end
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

// KEYS[1] watermark hash; ARGV[1] field and ARGV[2] value of the committed arrival, ARGV[3] number of arguments to set,
// then field and value of the rest, then fields to delete, each with the value that it must still have.
export const CLEAR = `
local before = redis.call("HGET", KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > tonumber(before or 0) then redis.call("HSET", KEYS[1], ARGV[1], ARGV[2]) end
local set = tonumber(ARGV[3])
for i = 4 + set, #ARGV, 2 do
  if redis.call("HGET", KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call("HDEL", KEYS[1], ARGV[i]) end
end
if set > 0 then redis.call("HSET", KEYS[1], ARGV[4], ARGV[5]) end
return 1`;
