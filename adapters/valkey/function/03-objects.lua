-- Objects: states of the operators first, last, lastN, distinct, buckets and tally, each a field of its own.

-- True when 8 identity bytes at the 9th of `a` come after those of `b`, as unsigned numbers. Lua's `<` on strings
-- follows the server's locale.
local function idAfter(a, b)
  local a1, a2 = unpackStruct(">I4I4", a, 9)
  local b1, b2 = unpackStruct(">I4I4", b, 9)
  if a1 ~= b1 then return a1 > b1 end
  return a2 > b2
end

-- f64 event time, 8 identity bytes, value.
local function better(kind, a, b)
  local ta, tb = unpackStruct("<d", a), unpackStruct("<d", b)
  local after
  if ta ~= tb then after = ta > tb else after = idAfter(a, b) end
  if kind == "last" then return after and a or b end
  return after and b or a
end

local function addRegister(dense, hash)
  local index = floor(hash / 4194304)
  local _, exponent = math.frexp(hash % 4194304)
  local rank = 23 - exponent
  if byte(dense, index + 2) >= rank then return dense end
  return sub(dense, 1, index + 1) .. char(rank) .. sub(dense, index + 3)
end

-- "S" and hashes (u32 big-endian, ascending) to 48 of them, then "D" and 1,024 registers.
local function addHash(state, raw)
  if not state then return "S" .. raw end
  local hash = unpackStruct(">I4", raw)
  if byte(state, 1) == 68 then return addRegister(state, hash) end
  local lower, upper = 0, (#state - 1) / 4
  while lower < upper do
    local middle = floor((lower + upper) / 2)
    local at = unpackStruct(">I4", state, 2 + middle * 4)
    if at == hash then return state end
    if at < hash then lower = middle + 1 else upper = middle end
  end
  state = sub(state, 1, 1 + lower * 4) .. raw .. sub(state, 2 + lower * 4)
  if #state <= 1 + 48 * 4 then return state end
  local dense = "D" .. rep("\0", 1024)
  for at = 2, #state, 4 do dense = addRegister(dense, (unpackStruct(">I4", state, at))) end
  return dense
end

local function mergeDistinct(a, b)
  if byte(a, 1) ~= 68 and byte(b, 1) == 68 then a, b = b, a end
  if byte(b, 1) == 68 then
    local x, y = { byte(a, 2, 1025) }, { byte(b, 2, 1025) }
    for i = 1, 1024 do if y[i] > x[i] then x[i] = y[i] end end
    return "D" .. char(unpackTable(x))
  end
  for at = 2, #b, 4 do a = addHash(a, sub(b, at, at + 3)) end
  return a
end

-- Entries newest first, each f64 event time, 8 identity bytes, u16 length, value: the first `keep` of both.
local function mergeNewest(a, b, keep)
  local out, n, i, j = {}, 0, 1, 1
  while n < keep and (i <= #a or j <= #b) do
    local fromA
    if j > #b then fromA = true
    elseif i > #a then fromA = false
    else
      local ta, tb = unpackStruct("<d", a, i), unpackStruct("<d", b, j)
      if ta ~= tb then fromA = ta > tb else fromA = idAfter(sub(a, i, i + 15), sub(b, j, j + 15)) end
    end
    n = n + 1
    if fromA then
      local next_ = i + 18 + unpackStruct("<H", a, i + 16)
      out[n] = sub(a, i, next_ - 1)
      i = next_
    else
      local next_ = j + 18 + unpackStruct("<H", b, j + 16)
      out[n] = sub(b, j, next_ - 1)
      j = next_
    end
  end
  return concat(out)
end

-- Entries ascending by bucket, each u16 bucket, u40 count.
local function addBucket(state, bucket)
  if not state then return pack("<HI5", bucket, 1) end
  local lower, upper = 0, #state / 7
  while lower < upper do
    local middle = floor((lower + upper) / 2)
    local at, count = unpackStruct("<HI5", state, 1 + middle * 7)
    if at == bucket then
      return sub(state, 1, middle * 7) .. pack("<HI5", bucket, count + 1) .. sub(state, 8 + middle * 7)
    end
    if at < bucket then lower = middle + 1 else upper = middle end
  end
  return sub(state, 1, lower * 7) .. pack("<HI5", bucket, 1) .. sub(state, 1 + lower * 7)
end

local function mergeBuckets(a, b)
  local out, i, j = {}, 1, 1
  while i <= #a and j <= #b do
    local x, m = unpackStruct("<HI5", a, i)
    local y, n = unpackStruct("<HI5", b, j)
    out[#out + 1] = pack("<HI5", min(x, y), (x <= y and m or 0) + (y <= x and n or 0))
    if x <= y then i = i + 7 end
    if y <= x then j = j + 7 end
  end
  return concat(out) .. sub(a, i) .. sub(b, j)
end

-- A tally: entries ascending by their values' bytes, each u16 length, value, u40 count; or one byte 255 past 64 entries.
local TALLY_LIMIT, TALLY_OVERFLOW = 64, "\255"

-- Byte by byte: Lua's own order follows the server's locale.
local function bytesBefore(a, b)
  for i = 1, min(#a, #b) do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function mergeTallies(a, b)
  if a == TALLY_OVERFLOW or b == TALLY_OVERFLOW then return TALLY_OVERFLOW end
  local out, n, i, j = {}, 0, 1, 1
  local x, p, y, q
  while i <= #a or j <= #b do
    if not x and i <= #a then x, p, i = unpackStruct("<Hc0I5", a, i) end
    if not y and j <= #b then y, q, j = unpackStruct("<Hc0I5", b, j) end
    n = n + 1
    if x == y then out[n] = pack("<Hc0I5", #x, x, p + q); x, y = nil, nil
    elseif not y or (x and bytesBefore(x, y)) then out[n] = pack("<Hc0I5", #x, x, p); x = nil
    else out[n] = pack("<Hc0I5", #y, y, q); y = nil end
  end
  if x or y then
    n = n + 1
    out[n] = pack("<Hc0I5", #(x or y), x or y, x and p or q)
  end
  if n > TALLY_LIMIT then return TALLY_OVERFLOW end
  return concat(out)
end

local function addValue(state, value)
  if state and state ~= TALLY_OVERFLOW then
    local at = 1
    while at <= #state do
      local next_ = at + 7 + unpackStruct("<H", state, at)
      if next_ - at - 7 == #value and sub(state, at + 2, next_ - 6) == value then
        return sub(state, 1, next_ - 6) .. pack("<I5", unpackStruct("<I5", state, next_ - 5) + 1) .. sub(state, next_)
      end
      at = next_
    end
  end
  local own = pack("<Hc0I5", #value, value, 1)
  return state and mergeTallies(state, own) or own
end

local function mergeObject(object, a, b)
  if not a then return b end
  if not b then return a end
  local kind = object.kind
  if kind == "distinct" then return mergeDistinct(a, b) end
  if kind == "buckets" then return mergeBuckets(a, b) end
  if kind == "tally" then return mergeTallies(a, b) end
  if kind == "lastN" then return mergeNewest(a, b, object.keep) end
  return better(kind, a, b)
end

-- An object with what one event gives to it.
local function addToObject(object, before, time, id, found, x)
  local kind = object.kind
  if kind == "distinct" then return addHash(before, x[found.hash]) end
  if kind == "buckets" then return addBucket(before, x[found.bucket]) end
  local value = x[found.object]
  if kind == "tally" then return addValue(before, value) end
  if kind == "lastN" then value = pack("<H", #value) .. value end
  return mergeObject(object, before, pack("<d", time) .. id .. value)
end
