-- erase: all that is held of an entity goes, and a tombstone takes its place. It refuses what happened before its time, from wherever
-- it comes: the broker again, a queue, a put of an older listing. Repeated, and after later events, it removes nothing more.

-- Drops the key, unless a tombstone that is as late stands. Returns how many fields went, and the tombstone that is to stand.
local function dropOlder(key, raw, before, keep, clean, nowUs)
  local since, cleanUs, lasting = readTombstone(raw)
  local gone = 0
  if since < before then
    gone = call("HLEN", key) - (raw and 1 or 0)
    call("DEL", key)
    since, cleanUs = before, 0
  end
  if clean == 1 then cleanUs = nowUs end
  lasting = lasting or keep < 0
  return gone, pack("<ddB", since, cleanUs, lasting and 1 or 0), lasting
end

local function keepUntil(key, keep, lasting)
  if lasting then call("PERSIST", key)
  else call("PEXPIREAT", key, string.format("%.0f", max(keep, call("PEXPIRETIME", key)))) end
end

local function eraseEntity(key, g, seal, before, keep, clean, nowUs)
  local raw = call("HMGET", key, "m", ERASED_FIELD)
  local meta = readMeta(raw[1], seal)
  local gone, tombstone, lasting = dropOlder(key, raw[2], before, keep, clean, nowUs)
  if call("EXISTS", key) == 0 then
    meta.flags, meta.folded = ERASED_FLAG, seal
    for i = #meta.newest, 1, -1 do meta.newest[i] = nil end
  end
  call("HSET", key, "m", writeMeta(meta, nowUs), ERASED_FIELD, tombstone)
  -- Without an end of its own the key of a lifetime stays as it is.
  keepUntil(key, keep, lasting or not g.expire and #meta.newest > 0)
  return gone
end

local function erasePushed(key, before, keep, clean, nowUs)
  local raw = call("HMGET", key, "#", ERASED_PUSHED)
  local gone, tombstone, lasting = dropOlder(key, raw[2], before, keep, clean, nowUs)
  call("HSET", key, "#", nextRev(raw[1], nowUs), ERASED_PUSHED, tombstone)
  keepUntil(key, keep, lasting)
  return gone
end
