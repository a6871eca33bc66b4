-- A repair: events that came when their tiles were sealed are folded into all that has been made of these, each once.
--
-- Field R: f64 clock (µs) of the newest repair, then 20 bytes for each event that is folded and may not be in the archive
-- yet: identity, u32 fingerprint of its payload, f64 visible time (ms). An event leaves it when its archive row is durable.

local REPAIR_BYTES = 20
-- A repair that was cut off is taken up again by then, or somebody has been told.
local UNSETTLED_MS = 3600000
local MENDED, RACED, WAITING = "\0", "\1", "\2"

local function readRepairs(raw)
  if not raw then return 0, "" end
  return (unpackStruct("<d", raw)), sub(raw, 9)
end

local function findRepair(unsettled, id)
  for at = 1, #unsettled, REPAIR_BYTES do
    if sub(unsettled, at, at + 7) == id then return at end
  end
  return nil
end

local function isRecent(unsettled, nowMs)
  for at = 13, #unsettled, REPAIR_BYTES do
    if nowMs - unpackStruct("<d", unsettled, at) < UNSETTLED_MS then return true end
  end
  return false
end

-- Writes what was made below the seal: `out` has names and values in turn, meta's the first. The key stays for as long as a
-- plan's windows reach.
local function writeBelow(key, g, meta, born, out, nowMs, nowUs)
  local stays = floor(meta.flags / 2) % 2 == 1
  if g.expire and stays then meta.flags = meta.flags - 2 end
  if not g.expire and not stays then meta.flags = meta.flags + 2 end
  out[2] = writeMeta(meta, nowUs)
  writeMany(key, out)
  if g.expire then expireAt(key, meta, max(meta.newest[1] or 0, nowMs) + g.expire)
  elseif not stays and not born then call("PERSIST", key) end
end

-- The first base index from which every slot counts, in each level that it is folded to.
local function youngestBirth(g, births)
  if not births.youngest then
    local youngest = 0
    for i = 1, #g.cells do youngest = max(youngest, births.cells[g.cells[i].id] or huge) end
    for i = 1, #g.objects do youngest = max(youngest, births.objects[g.objects[i].id] or huge) end
    births.youngest = youngest
  end
  return births.youngest
end

-- Adds cells and objects (by id) to one tile: `tiles` and `states` hold what is changed, by field name.
local function addToTile(key, g, name, objectNameOf, part, kept, objects, tiles, states)
  local ids = {}
  for i = 1, #part.layout.ids do if kept[part.layout.ids[i]] then ids[#ids + 1] = part.layout.ids[i] end end
  if #ids > 0 then
    local tile = tiles[name]
    local wanted = layoutOf(headerOf(ids))
    if not tile then
      tile = {}
      local old = call("HGET", key, name)
      if old then tile.layout, tile.v = decode(old) else tile.layout, tile.v = wanted, emptyCells(wanted, g) end
      tiles[name] = tile
    end
    tile.layout, tile.v = widen(tile.layout, tile.v, wanted, g)
    mergeCells(tile.layout, tile.v, part.layout, part.v, g, kept)
    encode(tile.layout, tile.v) -- carries
  end
  for o = 1, #objects do
    local state = part.states[objects[o].id]
    if state then
      local field_ = objectNameOf(objects[o])
      local before = states[field_]
      if before == nil then before = call("HGET", key, field_) end
      states[field_] = mergeObject(objects[o], before or nil, state)
    end
  end
end

-- Adds a part of one base tile wherever a fold would have brought it by now, and no window has let go of it.
local function spread(key, g, folded, index, part, tiles, states)
  local start = index * g.base
  for l = 1, #g.levels do
    local level = g.levels[l]
    local at = floor(start / level.size)
    if (l == 1 or (at + 1) * level.size <= folded) and at * level.size >= pruneBound(g, l, folded) then
      addToTile(key, g, field(level.id, at), function(object) return objectField(object.id, level.id, at) end,
        part, level.kept, level.objects, tiles, states)
    end
  end
  local top = g.levels[g.absorbing]
  if g.lifetime and (floor(start / top.size) + 1) * top.size <= folded then
    addToTile(key, g, "A", function(object) return "A" .. char(object.id) end,
      part, g.lifetimeCells, g.lifetimeObjects, tiles, states)
  end
end

-- Records of one base tile that are not repaired yet become a part of it. Returns where the next tile begins.
local function readPart(g, births, blob, at, index, count, repairs, replies, meta, nowMs)
  local layout = bornLayout(births, index)
  local part = { layout = layout, v = emptyCells(layout, g), states = {}, fresh = false }
  for _ = 1, count do
    local fingerprint = sub(blob, at, at + 3)
    local id, offset, payload
    id, offset, payload, at = readRecord(g, blob, at + 4)
    local known = findRepair(repairs.unsettled, id)
    if known then
      replies[#replies + 1] = "\1" .. sub(repairs.unsettled, known + 8, known + 19)
    else
      replies[#replies + 1] = "\0"
      repairs.unsettled = repairs.unsettled .. id .. fingerprint .. pack("<d", nowMs)
      part.fresh = true
      addToCells(g, layout, part.v, payload)
      local time = index * g.base + offset
      for o = 1, #g.objects do
        local object = g.objects[o]
        local found = payload.channels[object.channel]
        if found then part.states[object.id] = addToObject(object, part.states[object.id], time, id, found, x) end
      end
      keepNewest(meta.newest, time, g.base, g.newestKept)
    end
  end
  return part, at
end

local function mendEntity(key, blob, g, seal, births, nowMs, nowUs, held)
  if held then return WAITING end
  local _, generation, clock, settled, at = unpackStruct("<BddH", blob)
  local raw = call("HMGET", key, "m", "g", "R")
  local repaired, unsettled = readRepairs(raw[3])
  local before = #unsettled
  for _ = 1, settled do
    local found = findRepair(unsettled, sub(blob, at, at + 7))
    if found then unsettled = sub(unsettled, 1, found - 1) .. sub(unsettled, found + REPAIR_BYTES) end
    at = at + 8
  end
  local now = max(repaired + 1, nowUs)
  if at > #blob then
    -- Another clock: who listed the archive before the rows were in it must not take the events for new ones.
    if #unsettled < before then call("HSET", key, "R", pack("<d", now) .. unsettled) end
    return nil
  end
  local put = raw[2] and unpackStruct("<d", raw[2]) or 0
  if put ~= generation or repaired ~= clock then return RACED end
  local meta = readMeta(raw[1], seal)
  if seal > meta.folded then
    -- What is added to a tile leaves no identity there. Where a snapshot is restored under a seal of before, only how far the
    -- entity is folded keeps a replay from counting it once more.
    if fold(key, g, meta, seal, births, newestBelow(g, meta, seal)) then call("HSET", key, "m", writeMeta(meta, nowUs)) end
    if meta.folded < seal then return WAITING end
  end
  local size = g.lifetime and g.levels[g.absorbing].size / g.base or 1
  local folded = meta.folded * g.base
  local erased = meta.flags >= ERASED_FLAG and erasedBefore(key) or 0
  local repairs, replies, tiles, states = { unsettled = unsettled }, {}, {}, {}
  local fresh = false
  while at <= #blob do
    local index, count, bytes = unpackStruct("<I4HI4", blob, at)
    at = at + 10
    local gone = index * g.base < erased
    local refused = gone and "\4" or index >= seal and "\2" or youngestBirth(g, births) > floor(index / size) * size and "\3"
    if refused then
      for _ = 1, count do
        local id
        id, _, _, at = readRecord(g, blob, at + 4)
        -- One that a repair which died has folded is told whatever has been deployed since: a build waits until its row is written.
        local known = not gone and findRepair(unsettled, id)
        replies[#replies + 1] = known and "\1" .. sub(unsettled, known + 8, known + 19) or refused
      end
    else
      local part
      part, at = readPart(g, births, blob, at, index, count, repairs, replies, meta, nowMs)
      if part.fresh then
        fresh = true
        spread(key, g, folded, index, part, tiles, states)
      end
    end
  end
  -- What is older than every window is nowhere: nothing tells whether it was folded, and nothing has to.
  if fresh and (next(tiles) or next(states)) then
    local out = { "m", "", "R", pack("<d", now) .. repairs.unsettled }
    for name, tile in pairs(tiles) do
      out[#out + 1], out[#out + 2] = name, encode(tile.layout, tile.v)
    end
    for name, state in pairs(states) do
      out[#out + 1], out[#out + 2] = name, state
    end
    writeBelow(key, g, meta, not raw[1], out, nowMs, nowUs)
  end
  return MENDED .. concat(replies)
end
