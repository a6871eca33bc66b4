-- The bucket's control hash: epoch, state and run id; seal and births of each group.

local birthLists, birthCount = {}, 0
local function birthsOf(g, list)
  local cacheKey = g.id .. ":" .. list
  local births = birthLists[cacheKey]
  if not births then
    if birthCount > 256 then birthLists, birthCount = {}, 0 end
    births = { cells = {}, objects = {}, newest = 0, absorbed = 0, foreign = false }
    for at = 1, #list, 6 do
      local object, id, birth = unpackStruct("<BBI4", list, at)
      local known = object == 1 and g.objectById[id] or object == 0 and g.kindOf[id]
      if known then
        births[object == 1 and "objects" or "cells"][id] = birth
        births.newest = max(births.newest, birth)
      else
        births.foreign = true
      end
    end
    for id in pairs(g.lifetimeCells) do births.absorbed = max(births.absorbed, births.cells[id] or huge) end
    for i = 1, #g.lifetimeObjects do
      births.absorbed = max(births.absorbed, births.objects[g.lifetimeObjects[i].id] or huge)
    end
    birthLists[cacheKey] = births
    birthCount = birthCount + 1
  end
  return births
end

-- u32 seal (base index), then for each slot that is born or will be: u8 0 cell or 1 object, u8 slot id, u32 first base index.
-- Nearly every bucket has the same, so the table is kept.
local function readGroupControl(raw, g)
  local control = g.controls[raw]
  if not control then
    if g.controlCount > 256 then g.controls, g.controlCount = {}, 0 end
    control = { group = g, seal = unpackStruct("<I4", raw), births = birthsOf(g, sub(raw, 5)) }
    g.controls[raw] = control
    g.controlCount = g.controlCount + 1
  end
  return control
end

-- Layout of the cells that are born at a base index.
local function bornLayout(births, index)
  local full = index >= births.newest
  if full and births.full then return births.full end
  local ids = {}
  for id, birth in pairs(births.cells) do if index >= birth then ids[#ids + 1] = id end end
  local layout = layoutOf(headerOf(ids))
  if full then births.full = layout end
  return layout
end

-- `raw`: the field of the control hash. Returns a refusal, or nil and whether seal, sweep and fold stop.
local function begin(control, raw, caller)
  if not raw then return { LOST, 0 } end
  local epoch, run, replay = unpackStruct("<I4c8B", caller)
  local current, state, known = unpackStruct("<I4Bc8", raw)
  if current ~= epoch then return { EPOCH, current } end
  local open = state == STATE_OK or state == STATE_FAILOVER or (state == STATE_RESTORING and replay == 1)
  if not open then return { NOT_READY, state } end
  if known ~= run and state == STATE_OK then
    -- Another primary answers than the one that took the last writes: a suffix may be lost. Applying goes on, since
    -- identities and tiles are lost together; seal, sweep and fold stop until the suffix has been replayed.
    state = STATE_FAILOVER
    call("HSET", control, "c", pack("<I4Bc8", current, state, known))
  end
  return nil, state ~= STATE_OK
end
