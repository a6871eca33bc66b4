-- push: values that are given as they are. Of two values of a feature the one with the greater event time wins; at equal
-- times the one with the greater hash. So no order of calls, and no repetition of them, makes a difference.

local VALUE_SIZE = { [0] = 0, [1] = 1, [2] = 8, [3] = 8 } -- by tag: null, boolean, int64, double; a string says its own
local PACKED_VERSION = 1
local roundConstants, initialState

local function fractions(count, exponent)
  local found, candidate = {}, 2
  while #found < count do
    local prime = true
    for divisor = 2, floor(candidate ^ 0.5) do prime = prime and candidate % divisor ~= 0 end
    if prime then found[#found + 1] = floor(candidate ^ exponent % 1 * 4294967296) end
    candidate = candidate + 1
  end
  return found
end

-- First two words of SHA-256, as numbers below 2^32. FIPS 180-4; slow, and needed for nothing but ties.
local function hash64(text)
  local tobit, xor, rotate, shift, band, bnot = bit.tobit, bit.bxor, bit.ror, bit.rshift, bit.band, bit.bnot
  roundConstants = roundConstants or fractions(64, 1 / 3)
  initialState = initialState or fractions(8, 1 / 2)
  local state, w = {}, {}
  for i = 1, 8 do state[i] = tobit(initialState[i]) end
  local padded = text .. char(128) .. rep(char(0), (55 - #text) % 64) .. pack(">I8", #text * 8)
  for block = 1, #padded, 64 do
    for i = 1, 16 do w[i] = tobit((unpackStruct(">I4", padded, block + (i - 1) * 4))) end
    for i = 17, 64 do
      local x, y = w[i - 15], w[i - 2]
      local low = xor(rotate(x, 7), rotate(x, 18), shift(x, 3))
      local high = xor(rotate(y, 17), rotate(y, 19), shift(y, 10))
      w[i] = tobit(w[i - 16] + low + w[i - 7] + high)
    end
    local a, b, c, d, e, f, g, h = unpackTable(state)
    for i = 1, 64 do
      local mixed = xor(rotate(e, 6), rotate(e, 11), rotate(e, 25))
      local first = h + mixed + xor(band(e, f), band(bnot(e), g)) + roundConstants[i] + w[i]
      local second = xor(rotate(a, 2), rotate(a, 13), rotate(a, 22)) + xor(band(a, b), band(a, c), band(b, c))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + first), c, b, a, tobit(first + second)
    end
    local worked = { a, b, c, d, e, f, g, h }
    for i = 1, 8 do state[i] = tobit(state[i] + worked[i]) end
  end
  return state[1] % 4294967296, state[2] % 4294967296
end

local function hashOfValue(value) return hash64(char(value.tag) .. (value.tag == 4 and sub(value.bytes, 3) or value.bytes)) end

local function isNewer(a, b)
  if a.time ~= b.time then return a.time > b.time end
  if a.tag == b.tag and a.bytes == b.bytes then return false end
  local high, low = hashOfValue(a)
  local otherHigh, otherLow = hashOfValue(b)
  if high ~= otherHigh then return high > otherHigh end
  return low > otherLow
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
