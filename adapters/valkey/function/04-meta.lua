-- An entity's meta field: u8 version, u8 flags, f64 rev, u32 folded, f64 newest ...

-- One scratch table serves all keys of all calls: garbage is the larger part of a small function's cost.
local meta = { flags = 0, rev = 0, folded = 0, newest = {} }
local metaFormats = {}
local function metaFormat(n)
  local format = metaFormats[n]
  if not format then
    format = "<BBdI4" .. rep("d", n)
    metaFormats[n] = format
  end
  return format
end

local function readMeta(raw, seal)
  local newest, before, n = meta.newest, #meta.newest, 0
  if raw then
    n = (#raw - 14) / 8
    local _, a, b, c
    _, meta.flags, meta.rev, meta.folded, a, b, c = unpackStruct(metaFormat(n), raw)
    -- What is behind the last one is struct.unpack's position.
    if n > 0 then newest[1] = a end
    if n > 1 then newest[2] = b end
    if n > 2 then newest[3] = c end
    for i = 4, n do newest[i] = unpackStruct("<d", raw, 7 + i * 8) end
  else
    meta.flags, meta.rev, meta.folded = 0, 0, seal
  end
  for i = before, n + 1, -1 do newest[i] = nil end
  return meta
end

local function writeMeta(meta, nowUs)
  local rev = meta.rev + 1
  if rev < nowUs then rev = nowUs end
  meta.rev = rev
  local newest = meta.newest
  local n = #newest
  return pack(metaFormat(n), 1, meta.flags, rev, meta.folded, unpackTable(newest, 1, n))
end

local function keepNewest(newest, time, base, kept)
  local start = time - time % base
  for i = 1, #newest do
    local other = newest[i]
    if other >= start and other < start + base then
      if time > other then newest[i] = time end
      return
    end
    if other < start then
      insert(newest, i, time)
      newest[kept + 1] = nil
      return
    end
  end
  if #newest < kept then newest[#newest + 1] = time end
end

-- Field `e` of an erased entity: f64 time before which nothing counts any more (ms), f64 clock (µs) from which on the archive is
-- rid of it, 0 until then, u8 1 when it stays for ever.
local ERASED_FLAG = 4
local ERASED_FIELD, ERASED_PUSHED = "e", "!"
local function readTombstone(raw)
  if not raw then return -1, 0, false end
  local before, clean, lasting = unpackStruct("<ddB", raw)
  return before, clean, lasting == 1
end
local function erasedBefore(key) return (readTombstone(call("HGET", key, ERASED_FIELD))) end
local function cleanSince(key)
  local _, clean = readTombstone(call("HGET", key, ERASED_FIELD))
  return clean
end

-- A tombstone stays at least as long as the erasure asked for, whatever the entity's own end.
local function expireAt(key, meta, ms)
  if meta.flags >= ERASED_FLAG then
    local _, _, lasting = readTombstone(call("HGET", key, ERASED_FIELD))
    if lasting then return end
    ms = max(ms, call("PEXPIRETIME", key))
  end
  call("PEXPIREAT", key, ms)
end

-- Of a hash of pushed values. u56: with one byte more, one of 50 doubles would need the next size of memory.
local function nextRev(raw, nowUs) return pack("<I7", max(raw and unpackStruct("<I7", raw) + 1 or 0, nowUs)) end
