-- At a touch, what lies below the seal is folded upwards, its identities are swept, and what no window needs is pruned.

local function readMany(key, names)
  local values = {}
  for from = 1, #names, 200 do
    local part = redis.call("HMGET", key, unpack(names, from, min(from + 199, #names)))
    for i = 1, #part do values[from + i - 1] = part[i] end
  end
  return values
end

local function writeMany(key, pairs_)
  for from = 1, #pairs_, 200 do redis.call("HSET", key, unpack(pairs_, from, min(from + 199, #pairs_))) end
end

local function deleteMany(key, names)
  for from = 1, #names, 200 do redis.call("HDEL", key, unpack(names, from, min(from + 199, #names))) end
end

-- Merges tiles of `level` that start in [from, to) into tiles named by nameOf / objectNameOf(slot), one for each `into` ms.
local function foldLevel(key, g, level, from, to, into, kept, objects, nameOf, objectNameOf)
  local names, at = {}, {}
  for start = from, to - 1, level.size do
    local index = start / level.size
    names[#names + 1] = field(level.id, index)
    at[#names] = start
    for i = 1, #objects do
      names[#names + 1] = objectField(objects[i].id, level.id, index)
      at[#names] = start
    end
  end
  if #names == 0 then return end
  local values = readMany(key, names)
  local step = 1 + #objects
  local cells, states, order = {}, {}, {}
  for i = 1, #names, step do
    local target = into and floor(at[i] / into) or 0
    if values[i] then
      local layout, v = decode(values[i])
      local ids = {}
      for k = 1, #layout.ids do if kept[layout.ids[k]] then ids[#ids + 1] = layout.ids[k] end end
      if #ids > 0 then
        local sum = cells[target]
        if not sum then
          local old = redis.call("HGET", key, nameOf(target))
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
        if before == nil then before = redis.call("HGET", key, name) end
        states[name] = mergeObject(objects[o].kind, before or nil, state)
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
local function pruneBound(g, l, folded)
  local level = g.levels[l]
  local bound = folded - level.retain
  for i = 1, #g.levels do
    if g.levels[i].parts == l then bound = min(bound, floor(folded / g.levels[i].size) * g.levels[i].size) end
  end
  return floor(bound / level.size) * level.size
end

local function prune(key, g, meta, s0, s1, newestEnd)
  local names, wanted = {}, 0
  for l = 1, #g.levels do
    wanted = wanted + max(0, min(pruneBound(g, l, s1), newestEnd) - pruneBound(g, l, s0)) / g.levels[l].size
  end
  local firstId, endId = s0 / g.base, min(s1, newestEnd) / g.base
  if wanted * (1 + #g.objects) + (endId - firstId) > 2000 then
    -- A long gap: walking the fields that exist is shorter than naming those that might.
    local bounds = {}
    for l = 1, #g.levels do bounds[g.levels[l].id] = pruneBound(g, l, s1) / g.levels[l].size end
    for _, name in ipairs(redis.call("HKEYS", key)) do
      local first = byte(name, 1)
      if first == 105 then
        if unpackStruct(">I4", name, 2) < s1 / g.base then names[#names + 1] = name end
      elseif first == 115 then
        local bound = bounds[byte(name, 3)]
        if bound and unpackStruct(">I4", name, 4) < bound then names[#names + 1] = name end
      elseif #name == 5 and bounds[first] then
        if unpackStruct(">I4", name, 2) < bounds[first] then names[#names + 1] = name end
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
  return floor(seal / step) > floor(meta.folded / step)
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

-- Everything below the seal goes up to every level; identities below it go; what no window needs goes.
-- `newestEnd` is newestBelow's answer before this call's records: those are all above the seal, and would push it out of the list.
local function fold(key, g, meta, seal, births, newestEnd)
  local s0, s1 = meta.folded * g.base, seal * g.base
  for l = 2, #g.levels do
    local level = g.levels[l]
    local from = floor(s0 / level.size) * level.size
    local to = min(floor(s1 / level.size) * level.size, newestEnd)
    foldLevel(key, g, g.levels[level.parts], from, to, level.size, level.kept, level.objects,
      function(index) return field(level.id, index) end,
      function(slot, index) return objectField(slot, level.id, index) end)
  end
  if g.lifetime then
    local top = g.levels[g.absorbing]
    local from, to = floor(s0 / top.size) * top.size, min(floor(s1 / top.size) * top.size, newestEnd)
    local function absorb(start, stop, cells, objects)
      foldLevel(key, g, top, start, stop, nil, cells, objects, function() return "A" end,
        function(slot) return "A" .. char(slot) end)
    end
    -- What a slot was before the first whole tile after its birth is built in bulk, so it must not be absorbed as well.
    if births.absorbed <= from / g.base then absorb(from, to, g.lifetimeCells, g.lifetimeObjects)
    else
      for start = from, to - 1, top.size do absorb(start, start + top.size, absorbedAt(g, births, start / g.base)) end
    end
  end
  prune(key, g, meta, s0, s1, newestEnd)
  meta.folded = seal
end
