-- At a touch, what lies below the seal is folded upwards, its identities are swept, and what no window needs is pruned.

local function readMany(key, names)
  local values = {}
  for from = 1, #names, 200 do
    local part = call("HMGET", key, unpackTable(names, from, min(from + 199, #names)))
    for i = 1, #part do values[from + i - 1] = part[i] end
  end
  return values
end

local function writeMany(key, pairs_)
  for from = 1, #pairs_, 200 do call("HSET", key, unpackTable(pairs_, from, min(from + 199, #pairs_))) end
end

local function deleteMany(key, names)
  for from = 1, #names, 200 do call("HDEL", key, unpackTable(names, from, min(from + 199, #names))) end
end

-- Fields that a fold names although they might not be there. Beyond that it walks those that are.
local NAMED_LIMIT = 2000
-- Fields that all folds of a call may walk, about 10 ms: once so many are walked, further keys wait for their next touch.
local WALK_LIMIT = 10000
local walked = 0
local DAY = 86400000

-- For a seal that stood still for days: indices of all tiles that are there, by level id, and how far a fold may go so that
-- it has no more base tiles to fold than it would name otherwise. The next touch goes on from there.
local function tilesThere(key, g, folded, seal)
  local there, open = {}, {}
  for l = 1, #g.levels do there[g.levels[l].id] = {} end
  local names = call("HKEYS", key)
  walked = walked + #names
  for _, name in ipairs(names) do
    local first = byte(name, 1)
    if #name == 5 and there[first] then there[first][unpackStruct(">I4", name, 2)] = true
    elseif first == 115 and there[byte(name, 3)] then there[byte(name, 3)][unpackStruct(">I4", name, 4)] = true end
  end
  for index in pairs(there[g.levels[1].id]) do
    if index >= folded and index < seal then open[#open + 1] = index end
  end
  table.sort(open)
  return there, open[floor(NAMED_LIMIT / (1 + #g.objects)) + 1] or seal
end

-- Where tiles of a level start, in [from, to): all that might, or of those that are there.
local function startsOf(level, from, to, there)
  local starts = {}
  if there then
    for index in pairs(there[level.id]) do
      local start = index * level.size
      if start >= from and start < to then starts[#starts + 1] = start end
    end
  else
    for start = from, to - 1, level.size do starts[#starts + 1] = start end
  end
  return starts
end

-- Merges tiles of `level` that start at `starts` into tiles named by nameOf / objectNameOf(slot), one for each `into` ms.
-- `made`, if it is given, gets the indices of these.
local function foldLevel(key, g, level, starts, into, kept, objects, nameOf, objectNameOf, made)
  local names = {}
  for s = 1, #starts do
    local index = starts[s] / level.size
    names[#names + 1] = field(level.id, index)
    for i = 1, #objects do names[#names + 1] = objectField(objects[i].id, level.id, index) end
  end
  if #names == 0 then return end
  local values = readMany(key, names)
  local step = 1 + #objects
  local cells, states, order = {}, {}, {}
  for s = 1, #starts do
    local i = (s - 1) * step + 1
    local target = into and floor(starts[s] / into) or 0
    if made then made[target] = true end
    if values[i] then
      local layout, v = decode(values[i])
      local ids = {}
      for k = 1, #layout.ids do if kept[layout.ids[k]] then ids[#ids + 1] = layout.ids[k] end end
      if #ids > 0 then
        local sum = cells[target]
        if not sum then
          local old = call("HGET", key, nameOf(target))
          if old then
            local l, w = decode(old)
            sum = { layout = l, v = w }
          else
            local l = layoutOf(headerOf(ids))
            sum = { layout = l, v = emptyCells(l, g) }
          end
          cells[target] = sum
          order[#order + 1] = target
        end
        sum.layout, sum.v = widen(sum.layout, sum.v, layoutOf(headerOf(ids)), g)
        mergeCells(sum.layout, sum.v, layout, v, g, kept)
        encode(sum.layout, sum.v) -- carries, so that low parts stay small however many parts there are
      end
    end
    for o = 1, #objects do
      local state = values[i + o]
      if state then
        local name = objectNameOf(objects[o].id, target)
        local before = states[name]
        if before == nil then before = call("HGET", key, name) end
        states[name] = mergeObject(objects[o], before or nil, state)
      end
    end
  end
  local out = {}
  for i = 1, #order do
    local sum = cells[order[i]]
    out[#out + 1] = nameOf(order[i])
    out[#out + 1] = encode(sum.layout, sum.v)
  end
  for name, state in pairs(states) do
    out[#out + 1] = name
    out[#out + 1] = state
  end
  writeMany(key, out)
end

-- Below this (in ms) tiles of a level are folded wherever they are wanted and no window reaches them.
-- `retain`: instead of the level's own, where only the windows of one slot count.
local function pruneBound(g, l, folded, retain)
  local level = g.levels[l]
  local bound = folded - (retain or level.retain)
  for i = 1, #g.levels do
    if g.levels[i].parts == l then bound = min(bound, floor(folded / g.levels[i].size) * g.levels[i].size) end
  end
  return floor(bound / level.size) * level.size
end

local function prune(key, g, meta, s0, s1, newestEnd, there)
  local names, wanted = {}, 0
  for l = 1, #g.levels do
    wanted = wanted + max(0, min(pruneBound(g, l, s1), newestEnd) - pruneBound(g, l, s0)) / g.levels[l].size
  end
  local firstId, endId = s0 / g.base, min(s1, newestEnd) / g.base
  -- Once a day it walks all that is there, which also finds objects that only their level's other slots would need, and what
  -- slots and levels have left that were removed: a fold is held while there are births of slots that it does not know, and a new
  -- level comes with a new slot, so nobody fills these.
  local daily = floor(s0 / DAY) < floor(s1 / DAY)
  if daily or there or wanted * (1 + #g.objects) + (endId - firstId) > NAMED_LIMIT then
    local bounds, objectBounds = {}, {}
    for l = 1, #g.levels do
      local level, own = g.levels[l], {}
      bounds[level.id], objectBounds[level.id] = pruneBound(g, l, s1) / level.size, own
      for o = 1, #level.objects do
        own[level.objects[o].id] = pruneBound(g, l, s1, level.objects[o].retain) / level.size
      end
    end
    for _, name in ipairs(call("HKEYS", key)) do
      local first = byte(name, 1)
      if first == 105 then
        if unpackStruct(">I4", name, 2) < s1 / g.base then names[#names + 1] = name end
      elseif first == 115 then
        local slot, level, index = unpackStruct(">BBI4", name, 2)
        local bound = bounds[level] and (objectBounds[level][slot] or bounds[level])
        if not g.objectById[slot] or not bound or index < bound then names[#names + 1] = name end
      elseif #name == 2 and (first == 65 or first == 80) then
        if not g.objectById[byte(name, 2)] then names[#names + 1] = name end
      elseif #name == 5 and first < 65 then
        if not bounds[first] or unpackStruct(">I4", name, 2) < bounds[first] then names[#names + 1] = name end
      end
    end
  else
    for l = 1, #g.levels do
      local level = g.levels[l]
      for start = pruneBound(g, l, s0), min(pruneBound(g, l, s1), newestEnd) - 1, level.size do
        names[#names + 1] = field(level.id, start / level.size)
        for o = 1, #g.objects do
          names[#names + 1] = objectField(g.objects[o].id, level.id, start / level.size)
        end
      end
    end
    local main = {}
    for index = firstId, endId - 1 do main[#main + 1] = idsField(index) end
    if meta.flags % 2 == 1 and #main > 0 then
      local values = readMany(key, main)
      for i = 1, #main do
        if values[i] and #values[i] == 1 then
          for chunk = 0, 2 ^ byte(values[i]) - 1 do names[#names + 1] = chunkField(firstId + i - 1, chunk) end
        end
      end
    end
    for i = 1, #main do names[#names + 1] = main[i] end
  end
  deleteMany(key, names)
end

local function foldDue(g, meta, seal)
  local step = g.levels[2] and g.levels[2].size / g.base or 5
  return seal - seal % step > meta.folded - meta.folded % step
end

-- End (in ms) of the newest base tile below the seal, so that a fold after a long silence does not name every minute of it.
local function newestBelow(g, meta, seal)
  for i = 1, #meta.newest do
    local index = floor(meta.newest[i] / g.base)
    if index < seal then return (index + 1) * g.base end
  end
  -- The list holds the newest tiles only; when it is full, older ones may lie below the seal.
  return (#meta.newest < g.newestKept and meta.folded or seal) * g.base
end

-- Lifetime slots that were born at a base index, cells by id and a list of objects.
local function absorbedAt(g, births, index)
  local cells, objects = {}, {}
  for id in pairs(g.lifetimeCells) do
    if births.cells[id] and births.cells[id] <= index then cells[id] = true end
  end
  for i = 1, #g.lifetimeObjects do
    local birth = births.objects[g.lifetimeObjects[i].id]
    if birth and birth <= index then objects[#objects + 1] = g.lifetimeObjects[i] end
  end
  return cells, objects
end

-- Everything below the seal goes up to every level; identities below it go; what no window needs goes. After a long gap the
-- entity is folded as far as one call may, and is behind the seal until further touches. Returns whether anything was done.
-- `newestEnd` is newestBelow's answer before this call's records: those are all above the seal, and would push it out of the list.
local function fold(key, g, meta, seal, births, newestEnd)
  local there
  if (min(seal, newestEnd / g.base) - meta.folded) * (1 + #g.objects) > NAMED_LIMIT then
    if walked >= WALK_LIMIT then return false end
    there, seal = tilesThere(key, g, meta.folded, seal)
  end
  local s0, s1 = meta.folded * g.base, seal * g.base
  for l = 2, #g.levels do
    local level = g.levels[l]
    local from = floor(s0 / level.size) * level.size
    local to = min(floor(s1 / level.size) * level.size, newestEnd)
    local parts = g.levels[level.parts]
    foldLevel(key, g, parts, startsOf(parts, from, to, there), level.size, level.kept, level.objects,
      function(index) return field(level.id, index) end,
      function(slot, index) return objectField(slot, level.id, index) end, there and there[level.id])
  end
  if g.lifetime then
    local top = g.levels[g.absorbing]
    local from, to = floor(s0 / top.size) * top.size, min(floor(s1 / top.size) * top.size, newestEnd)
    local function absorb(starts, cells, objects)
      foldLevel(key, g, top, starts, nil, cells, objects, function() return "A" end,
        function(slot) return "A" .. char(slot) end)
    end
    local starts = startsOf(top, from, to, there)
    -- What a slot was before the first whole tile after its birth is built in bulk, so it must not be absorbed as well.
    if births.absorbed <= from / g.base then absorb(starts, g.lifetimeCells, g.lifetimeObjects)
    else
      for s = 1, #starts do absorb({ starts[s] }, absorbedAt(g, births, starts[s] / g.base)) end
    end
  end
  prune(key, g, meta, s0, s1, newestEnd, there)
  meta.folded = seal
  return true
end
