-- push: values that are given as they are. Of two values of a feature the one with the greater event time wins; at equal
-- times the one with the greater hash. So no order of calls, and no repetition of them, makes a difference.

local VALUE_SIZE = { [0] = 0, [1] = 1, [2] = 8, [3] = 8 } -- by tag: null, boolean, int64, double; a string says its own
local PACKED_VERSION = 1

-- First 52 bits of SHA-1, which the server has in C: of two values at one time it decides which wins, and nothing more.
local function hashOfValue(value)
  return tonumber(sub(redis.sha1hex(char(value.tag) .. (value.tag == 4 and sub(value.bytes, 3) or value.bytes)), 1, 13), 16)
end

local function isNewer(a, b)
  if a.time ~= b.time then return a.time > b.time end
  if a.tag == b.tag and a.bytes == b.bytes then return false end
  return hashOfValue(a) > hashOfValue(b)
end

-- Adds what a packed field holds from `at` on, by id.
local function readPacked(raw, at, into)
  while at <= #raw do
    local time, id, count, tag = unpackStruct("<I6I2BB", raw, at)
    at = at + 10
    for i = id, id + count - 1 do
      local size = VALUE_SIZE[tag] or unpackStruct("<I2", raw, at) + 2
      into[i] = { time = time, tag = tag, bytes = sub(raw, at, at + size - 1) }
      at = at + size
    end
  end
  return into
end

local function writePacked(values)
  local ids, parts = {}, { char(PACKED_VERSION) }
  for id in pairs(values) do ids[#ids + 1] = id end
  table.sort(ids)
  local at = 1
  while at <= #ids do
    local from, first = at, values[ids[at]]
    local bytes = {}
    repeat
      bytes[#bytes + 1] = values[ids[at]].bytes
      at = at + 1
      local next = values[ids[at]]
    until not next or ids[at] ~= ids[at - 1] + 1 or next.time ~= first.time or next.tag ~= first.tag or at - from == 255
    parts[#parts + 1] = pack("<I6I2BB", first.time, ids[from], at - from, first.tag) .. concat(bytes)
  end
  return concat(parts)
end

local function afterRun(raw, at, count, tag)
  if VALUE_SIZE[tag] then return at + 10 + count * VALUE_SIZE[tag] end
  at = at + 10
  for _ = 1, count do at = at + 2 + unpackStruct("<I2", raw, at) end
  return at
end

-- Whether a field has the same ids as another, run by run, each at a later time: the common case, in which no value is looked at.
local function replaces(given, stored)
  local at, other = 2, 2
  while at <= #given and other <= #stored do
    local time, id, count, tag = unpackStruct("<I6I2BB", given, at)
    local otherTime, otherId, otherCount, otherTag = unpackStruct("<I6I2BB", stored, other)
    if time <= otherTime or id ~= otherId or count ~= otherCount then return false end
    at, other = afterRun(given, at, count, tag), afterRun(stored, other, otherCount, otherTag)
  end
  return at > #given and other > #stored
end

local function mergePacked(stored, given)
  if not stored or replaces(given, stored) then return given end
  if stored == given then return nil end
  local values, changed = readPacked(stored, 2, {}), false
  for id, value in pairs(readPacked(given, 2, {})) do
    if not values[id] or isNewer(value, values[id]) then
      values[id] = value
      changed = true
    end
  end
  return changed and writePacked(values) or nil
end

-- Returns 1 when the newest value is further ahead of the store's clock than an event may be; then nothing is written.
local function pushEntity(key, blob, nowMs, nowUs)
  local expire, newest = unpackStruct("<dd", blob)
  if newest > nowMs + 60000 then return char(1) end
  local erased, _, lasting = readTombstone(call("HGET", key, ERASED_PUSHED))
  if newest < erased then return char(2) end
  local at, changed = 17, false
  while at <= #blob do
    local name, after = unpackStruct("Bc0", blob, at)
    local given, following = unpackStruct("<I4c0", blob, after)
    at = following
    local merged = mergePacked(call("HGET", key, name), given)
    if merged then
      call("HSET", key, name, merged)
      changed = true
    end
  end
  if changed then
    call("HSET", key, "#", nextRev(call("HGET", key, "#"), nowUs))
  end
  -- A key without an expiry has just been made.
  if not lasting and call("PEXPIRETIME", key) < expire then call("PEXPIREAT", key, string.format("%.0f", expire)) end
  return ""
end
