-- A put: tiles that were built from the archive take the place of those below the seal, all of an entity in one step.

local MOVED, OLDER, HELD, ERASED = "\1", "\2", "\3", "\4"

-- Fields of a hash that a put answers for: tiles (a list of names), and a set of objects. Tiles that end at or below the seal
-- and start at or after `from`; the lifetime too, if it is given whole.
local function answeredFor(key, g, seal, from, whole)
  local levels, tiles, objects = {}, {}, {}
  for l = 1, #g.levels do levels[g.levels[l].id] = g.levels[l].size end
  local function inside(level, index)
    local size = levels[level]
    return size and index * size >= from * g.base and (index + 1) * size <= seal * g.base
  end
  for _, name in ipairs(call("HKEYS", key)) do
    local first, length = byte(name, 1), #name
    if first == 115 and length == 7 then
      local slot, level, index = unpackStruct(">BBI4", name, 2)
      if g.objectById[slot] and inside(level, index) then objects[#objects + 1] = name end
    elseif length == 5 and first < 65 then
      if inside(first, (unpackStruct(">I4", name, 2))) then tiles[#tiles + 1] = name end
    elseif whole and (first == 65 or first == 80) then
      if length == 1 then tiles[#tiles + 1] = name
      elseif g.objectById[byte(name, 2)] then objects[#objects + 1] = name end
    end
  end
  return tiles, objects
end

-- Cells of slots that this plan does not know stay: `tile`'s, beside those of `given` (nil: none). Returns nil when there are none.
local function withForeign(g, tile, given)
  local layout, v = decode(tile)
  local foreign = {}
  for i = 1, #layout.ids do
    if not g.kindOf[layout.ids[i]] then foreign[#foreign + 1] = layout.ids[i] end
  end
  if #foreign == 0 then return nil end
  local kept = layoutOf(headerOf(foreign))
  local union, w = kept, emptyCells(kept, g)
  if given then
    local own, cells = decode(given)
    union, w = widen(own, cells, kept, g)
  end
  for i = 1, #kept.ids do
    local id = kept.ids[i]
    local from, to = layout.position[id], union.position[id]
    w[to] = v[from]
    if WIDE[class(id)] then w[to + 1] = v[from + 1] end
  end
  return encode(union, w)
end

-- What is stored gives way to `out` (names and values in turn, the first at 5): returns the fields to delete.
local function replace(key, g, seal, from, whole, out)
  local given, stale = {}, {}
  for i = 5, #out, 2 do given[out[i]] = i + 1 end
  local tiles, objects = answeredFor(key, g, seal, from, whole)
  local values = readMany(key, tiles)
  for i = 1, #tiles do
    local name = tiles[i]
    local at = given[name]
    local mixed = withForeign(g, values[i], at and out[at])
    if at then out[at] = mixed or out[at]
    elseif mixed then
      out[#out + 1] = name
      out[#out + 1] = mixed
    else stale[#stale + 1] = name end
  end
  for i = 1, #objects do
    if not given[objects[i]] then stale[#stale + 1] = objects[i] end
  end
  return stale
end

local function putEntity(key, blob, g, seal, births, nowMs, nowUs, held)
  local _, expected, generation, whole, from, newest, listed, at = unpackStruct("<BI4dBI4dd", blob)
  if held then return HELD end
  if expected ~= seal then return MOVED end
  local raw = call("HMGET", key, "m", "g", "R")
  local meta = readMeta(raw[1], seal)
  if meta.folded > seal then return MOVED end
  if meta.flags >= ERASED_FLAG then
    -- What was listed before the archive was rid of the entity holds it still.
    local clean = cleanSince(key)
    if clean == 0 then return ERASED end
    if clean >= listed then return OLDER end
  end
  if raw[2] and unpackStruct("<d", raw[2]) >= generation then return OLDER end
  if raw[3] then
    -- A repair that the listing may lack; or one whose archive row is still being written.
    local clock, unsettled = readRepairs(raw[3])
    if clock >= listed then return OLDER end
    if isRecent(unsettled, nowMs) then return HELD end
  end
  local born = not raw[1]
  if seal > meta.folded then
    local folded = fold(key, g, meta, seal, births, newestBelow(g, meta, seal))
    if meta.folded < seal then
      -- After a long gap folding takes several calls, and what was built is for an entity that is folded up to the seal.
      if folded then call("HSET", key, "m", writeMeta(meta, nowUs)) end
      return HELD
    end
  end
  local out = { "m", "", "g", pack("<d", generation) }
  local size, n = #blob, 4
  while at <= size do
    out[n + 1], out[n + 2], at = unpackStruct("<Bc0I4c0", blob, at)
    n = n + 2
  end
  if not born then
    local stale = replace(key, g, seal, from, whole == 1, out)
    -- What was repaired is in the archive, or is not in these tiles any more.
    if raw[3] and whole == 1 then stale[#stale + 1] = "R" end
    if #stale > 0 then deleteMany(key, stale) end
  end
  if newest >= 0 then keepNewest(meta.newest, newest, g.base, g.newestKept) end
  writeBelow(key, g, meta, born, out, nowMs, nowUs)
  return nil
end
