/**
 * A token bucket of `core/token-bucket.ts` in the store: the same arithmetic, by the store's clock, so that hosts whose clocks
 * differ share one bucket. A script and not a function: whoever may only read the store has to be able to run it without
 * loading anything.
 *
 * A hash, which is what the store's users may write. Field `b`: fullAtUs, day, usedToday, three little-endian doubles. The
 * key goes when it says nothing more.
 */

// KEYS[1] the bucket; ARGV[1] tokens spent without asking, ARGV[2] tokens asked for (0 for none), ARGV[3] tokens a second,
// ARGV[4] burst, ARGV[5] tokens a day (0 for no bound). Returns 1 when what was asked for is admitted, else 0; then fullAtUs
// (rounded up), day and usedToday as they are now, and the store's clock in µs.
export const BUCKET_SCRIPT = `
local DAY = 86400000000
local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
local spent, cost, each, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), 1000000 / tonumber(ARGV[3]), tonumber(ARGV[4])
local perDay, today = tonumber(ARGV[5]), math.floor(now / DAY)
local full, used = 0, 0
local raw = redis.call("HGET", KEYS[1], "b")
if raw then
  local day
  full, day, used = struct.unpack("<ddd", raw)
  if day ~= today then used = 0 end
end
local changed = spent > 0
if changed then
  full = math.min(math.max(full, now) + spent * each, math.max(full, now + burst * each))
  used = used + spent
end
local admitted = 0
if cost > 0 and (perDay == 0 or used + cost <= perDay)
  and math.max(full - now, 0) + (math.min(cost, burst) - burst) * each <= 0 then
  full, used = math.max(full, now) + cost * each, used + cost
  admitted, changed = 1, true
end
if changed then
  local keep = full - now
  if perDay > 0 then keep = math.max(keep, (today + 1) * DAY - now) end
  redis.call("HSET", KEYS[1], "b", struct.pack("<ddd", full, today, used))
  redis.call("PEXPIREAT", KEYS[1], string.format("%.0f", math.ceil((now + keep) / 1000)))
end
return { admitted, math.ceil(full), today, used, now }`;
