-- The store's server-side function: checks identities and folds events into base tiles, once, in one step.
--
-- Loaded as a Valkey Functions library whose name carries the layout's hash; `--@SPEC@` below is replaced by the plan's
-- groups as a Lua table (adapters/valkey/function-source.ts). All layouts are written down in adapters/valkey/layout.ts.
--
--   apply   KEYS  control hash of the bucket, then one entity hash for each ARGV from the second on, all of one slot
--           ARGV  [1] u32 epoch, 8 bytes of the primary's run id, u8 1 for a replay: allowed while restoring
--                 [k] group id (u8), then for each base tile its index (u32), number of records (u16) and their bytes
--                     (u32), then the records: identity (8), offset in the tile in ms (u32), mask of present channels
--                     (u32), and for each present channel what its slots need, in this order: value (f64), square hi
--                     and lo (f64, f64), hash (4, big-endian), object (u16 length, bytes)
--   touch   KEYS  as for apply      ARGV  [1] as for apply   [k] group id (u8): folds, sweeps and prunes without an event
--
-- Result of both: { code, detail, outcome for each key ... }. code > 0 is the store's clock in ms, detail is 1 while
-- a failover is not cleared or the store is being restored. Outcomes are left out when every record was applied; else, for each record: 0 applied,
-- 1 and u32 (first apply time modulo 2^32) duplicate, 2 sealed. Negative codes are in adapters/valkey/replies.ts.

--@SPEC@

-- While a library loads, none of Lua's own libraries can be seen: the first call binds what the rest uses.
local pack, unpackStruct, byte, char, sub, find, rep, floor, min, max, concat, insert, huge
local LOW = 1099511627776 -- 2^40: the low part of a wide sum
local CHUNK_LIMIT = 4096 -- bytes of one field of identities
local ID_BYTES = 12
local LOST, EPOCH, NOT_READY, GROUP_UNKNOWN, GROUP_NEW = -1, -2, -3, -4, -5
local STATE_OK, STATE_RESTORING, STATE_FAILOVER = 1, 2, 3
local GROUP_FIELDS = {}
local COUNT, SUM, SQUARES, MINIMUM, MAXIMUM = 1, 2, 3, 4, 5
-- Size class of a cell by the upper two bits of its slot id, so that tiles of a newer plan can be kept whole.
local CLASS_FORMAT = { [0] = "I5", [1] = "d", [2] = "i4I5", [3] = "I7I5" }
local CLASS_EMPTY = { [0] = { 0 }, [2] = { 0, 0 }, [3] = { 0, 0 } }
local WIDE = { [0] = false, [1] = false, [2] = true, [3] = true }
-- Greatest high part of a wide cell. A sum of squares stays there once it has come so far: it is served as null from 2^53 on.
local WIDE_LIMIT = { [2] = 2147483647, [3] = 9007199254740992 }

local function class(id) return floor(id / 64) end
local function field(level, index) return pack(">BI4", level, index) end
local function objectField(slot, level, index) return pack(">c1BBI4", "s", slot, level, index) end
local function idsField(index) return pack(">c1I4", "i", index) end
local function chunkField(index, chunk) return pack(">c1I4B", "i", index, chunk) end

-- ---------------------------------------------------------------- tiles: u8 n, n slot ids ascending, n cells

local layouts, layoutCount = {}, 0
local function layoutOf(header)
  local layout = layouts[header]
  if layout then return layout end
  if layoutCount > 4096 then layouts, layoutCount = {}, 0 end
  local format, position, at, wide, limits, ids = { "<c", tostring(#header) }, {}, 1, {}, {}, {}
  for i = 2, #header do
    local id = byte(header, i)
    ids[i - 1] = id
    position[id] = at
    format[#format + 1] = CLASS_FORMAT[class(id)]
    if WIDE[class(id)] then
      wide[#wide + 1] = at
      limits[#wide] = WIDE_LIMIT[class(id)]
    end
    at = at + (WIDE[class(id)] and 2 or 1)
  end
  layout = { header = header, format = concat(format), position = position, wide = wide, limits = limits, ids = ids,
             cells = at - 1, programs = {}, unions = {} }
  layouts[header] = layout
  layoutCount = layoutCount + 1
  return layout
end

local function headerOf(ids)
  table.sort(ids)
  return char(#ids, unpack(ids))
end

local function emptyCells(layout, g)
  local v = {}
  for i = 1, #layout.ids do
    local id = layout.ids[i]
    local at = layout.position[id]
    local empty = CLASS_EMPTY[class(id)]
    if empty then
      for k = 1, #empty do v[at + k - 1] = empty[k] end
    else
      v[at] = g.kindOf[id] == MAXIMUM and -huge or huge
    end
  end
  return v
end

local function decode(tile)
  local layout = layoutOf(sub(tile, 1, byte(tile, 1) + 1))
  local v = { unpackStruct(layout.format, tile) }
  table.remove(v, 1)
  v[#v] = nil -- struct.unpack's last result is the next position
  return layout, v
end

local function encode(layout, v)
  local wide = layout.wide
  for i = 1, #wide do
    local at = wide[i]
    local lo = v[at + 1]
    local carry = floor(lo / LOW)
    if carry ~= 0 then
      v[at] = v[at] + carry
      v[at + 1] = lo - carry * LOW
    end
    -- Cells are as wide as their bytes: a high part that grew past them would wrap around and look like a small sum.
    local limit = layout.limits[i]
    if v[at] >= limit then v[at], v[at + 1] = limit, 0
    elseif v[at] < -limit then v[at], v[at + 1] = -limit, 0 end
  end
  return pack(layout.format, layout.header, unpack(v))
end

-- The same cells in a layout that also holds `wanted`'s slots.
local function widen(layout, v, wanted, g)
  local union = layout.unions[wanted.header]
  if not union then
    local ids, missing = {}, false
    for i = 1, #layout.ids do ids[i] = layout.ids[i] end
    for i = 1, #wanted.ids do
      if not layout.position[wanted.ids[i]] then
        insert(ids, wanted.ids[i])
        missing = true
      end
    end
    union = missing and layoutOf(headerOf(ids)) or layout
    layout.unions[wanted.header] = union
  end
  if union == layout then return layout, v end
  local w = emptyCells(union, g)
  for i = 1, #layout.ids do
    local id = layout.ids[i]
    local from, to = layout.position[id], union.position[id]
    w[to] = v[from]
    if WIDE[class(id)] then w[to + 1] = v[from + 1] end
  end
  return union, w
end

local function mergeCells(layout, v, other, w, g, kept)
  for i = 1, #other.ids do
    local id = other.ids[i]
    if kept[id] then
      local to, from, kind = layout.position[id], other.position[id], g.kindOf[id]
      if kind == MINIMUM then v[to] = min(v[to], w[from])
      elseif kind == MAXIMUM then v[to] = max(v[to], w[from])
      else
        v[to] = v[to] + w[from]
        if kind ~= COUNT then v[to + 1] = v[to + 1] + w[from + 1] end
      end
    end
  end
end

-- ---------------------------------------------------------------- objects: first, last, distinct

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
    return "D" .. char(unpack(x))
  end
  for at = 2, #b, 4 do a = addHash(a, sub(b, at, at + 3)) end
  return a
end

local function mergeObject(kind, a, b)
  if not a then return b end
  if not b then return a end
  if kind == "distinct" then return mergeDistinct(a, b) end
  return better(kind, a, b)
end

-- ---------------------------------------------------------------- meta: u8 version, u8 flags, f64 rev, u32 folded, f64 newest ...

-- One scratch table serves all keys of all calls: garbage is the larger part of a small function's cost.
local meta = { flags = 0, rev = 0, folded = 0, newest = {} }
local metaFormats = {}
local function readMeta(raw, seal)
  local newest, n = meta.newest, 0
  if raw then
    local _
    _, meta.flags, meta.rev, meta.folded = unpackStruct("<BBdI4", raw)
    n = (#raw - 14) / 8
    for i = 1, n do newest[i] = unpackStruct("<d", raw, 7 + i * 8) end
  else
    meta.flags, meta.rev, meta.folded = 0, 0, seal
  end
  for i = #newest, n + 1, -1 do newest[i] = nil end
  return meta
end

local function writeMeta(meta, nowUs)
  meta.rev = max(meta.rev + 1, nowUs)
  local n = #meta.newest
  local format = metaFormats[n]
  if not format then
    format = "<BBdI4" .. rep("d", n)
    metaFormats[n] = format
  end
  return pack(format, 1, meta.flags, meta.rev, meta.folded, unpack(meta.newest))
end

local function keepNewest(newest, time, base, kept)
  local index = floor(time / base)
  for i = 1, #newest do
    local other = floor(newest[i] / base)
    if other == index then
      if time > newest[i] then newest[i] = time end
      return
    end
    if other < index then
      insert(newest, i, time)
      newest[kept + 1] = nil
      return
    end
  end
  if #newest < kept then newest[#newest + 1] = time end
end

-- ---------------------------------------------------------------- fold upwards, sweep identities, prune

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

-- ---------------------------------------------------------------- control

local birthLists, birthCount = {}, 0
-- u32 seal (base index), then for each slot that is born or will be: u8 0 cell or 1 object, u8 slot id, u32 first base index.
local function readGroupControl(raw, g)
  local seal = unpackStruct("<I4", raw)
  local list = sub(raw, 5)
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
  return seal, births
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

local function begin(keys, args)
  local raw = redis.call("HGET", keys[1], "c")
  if not raw then return { LOST, 0 } end
  local epoch, run, replay = unpackStruct("<I4c8B", args[1])
  local current, state, known = unpackStruct("<I4Bc8", raw)
  if current ~= epoch then return { EPOCH, current } end
  local open = state == STATE_OK or state == STATE_FAILOVER or (state == STATE_RESTORING and replay == 1)
  if not open then return { NOT_READY, state } end
  if known ~= run and state == STATE_OK then
    -- Another primary answers than the one that took the last writes: a suffix may be lost. Applying goes on, since
    -- identities and tiles are lost together; seal, sweep and fold stop until the suffix has been replayed.
    state = STATE_FAILOVER
    redis.call("HSET", keys[1], "c", pack("<I4Bc8", current, state, known))
  end
  return nil, state ~= STATE_OK
end

-- ---------------------------------------------------------------- apply

-- How to read the payload of a mask of channels: struct format, and for each present channel where its values are.
local function payloadOf(g, mask)
  local payload = g.payloads[mask]
  if payload then return payload end
  local format, at, channels, rest = { "<" }, 1, {}, mask
  for c = 1, #g.channels do
    local present = rest % 2 == 1
    rest = floor(rest / 2)
    if present then
      local needs, found = g.channels[c], {}
      if needs.value then found.value = at; at = at + 1; format[#format + 1] = "d" end
      if needs.squares then found.squares = at; at = at + 2; format[#format + 1] = "dd" end
      if needs.hash then found.hash = at; at = at + 1; format[#format + 1] = "c4" end
      if needs.object then found.object = at; at = at + 1; format[#format + 1] = "Hc0" end
      channels[c] = found
    end
  end
  -- Without an object every record of the mask has the same size, and the first pass need not read it.
  local size, variable = 0, false
  for _, found in pairs(channels) do
    size = size + (found.value and 8 or 0) + (found.squares and 16 or 0) + (found.hash and 4 or 0)
    variable = variable or found.object ~= nil
  end
  payload = { format = concat(format), channels = channels, values = at - 1, size = not variable and size or nil }
  g.payloads[mask] = payload
  return payload
end

-- Flat list of (operation, cell, argument) for a mask of channels in a layout.
local function programOf(g, layout, mask)
  local key = g.id * 4294967296 + mask
  local program = layout.programs[key]
  if program then return program end
  local channels = payloadOf(g, mask).channels
  program = {}
  for i = 1, #g.cells do
    local cell = g.cells[i]
    local at, found = layout.position[cell.id], channels[cell.channel]
    if at and found then
      insert(program, cell.kind)
      insert(program, at)
      insert(program, cell.kind == COUNT and 0 or cell.kind == SQUARES and found.squares or found.value)
    end
  end
  layout.programs[key] = program
  return program
end

-- The apply time if the identity is among entries of 12 bytes.
local function findId(content, id)
  local from = 1
  while true do
    local at = find(content, id, from, true)
    if not at then return nil end
    if (at - 1) % ID_BYTES == 0 then return sub(content, at + 8, at + 11) end
    from = at + 1
  end
end

-- Identities of a busy base tile: 2^bits fields by the identity's first bits, loaded when one is looked at.
local function openChunks(key, index, bits)
  return { key = key, index = index, bits = bits, chunks = {}, dirty = {} }
end

local function loadChunk(ids, chunk)
  local content = ids.chunks[chunk]
  if not content then
    content = redis.call("HGET", ids.key, chunkField(ids.index, chunk)) or ""
    ids.chunks[chunk] = content
  end
  return content
end

local function chunkOf(ids, id) return floor(byte(id, 1) / 2 ^ (8 - ids.bits)) end

-- Entries dealt out into 16 times as many fields: from one field to 16, from 16 to 256.
local function splitIds(key, index, contents, oldBits)
  local ids = openChunks(key, index, oldBits + 4)
  local parts = {}
  for _, content in pairs(contents) do
    for at = 1, #content, ID_BYTES do
      local chunk = floor(byte(content, at) / 2 ^ (8 - ids.bits))
      parts[chunk] = parts[chunk] or {}
      insert(parts[chunk], sub(content, at, at + ID_BYTES - 1))
    end
  end
  for chunk = 0, 2 ^ ids.bits - 1 do
    ids.chunks[chunk] = parts[chunk] and concat(parts[chunk]) or ""
    if parts[chunk] then ids.dirty[chunk] = true end
  end
  ids.split = true
  return ids
end

local function splitAgain(ids)
  local old = {}
  for chunk = 0, 2 ^ ids.bits - 1 do
    loadChunk(ids, chunk)
    old[#old + 1] = chunkField(ids.index, chunk)
  end
  local again = splitIds(ids.key, ids.index, ids.chunks, ids.bits)
  again.stale = old -- deleted with the write: an error before it must leave what is stored
  return again
end

local x = {} -- values of one record's payload
local names, out = {}, {}
local outcome, outcomes = {}, 0

-- Notes the outcome of a record; nothing is kept while all are applied, which is the common case.
local function except(record, code)
  if outcomes == 0 then for i = 1, record - 1 do outcome[i] = "\0" end end
  outcome[record] = code
  outcomes = record
end

local function applyEntity(key, blob, g, seal, births, nowMs, nowUs, frozen)
  local size, objects, base = #blob, g.objects, g.base
  local baseLevel = g.levels[1].id
  -- First the fields: meta, and for each tile that is open its cells, identities and objects.
  local at, n = 2, 1
  names[1] = "m"
  while at < size do
    local index, _, bytes = unpackStruct("<I4HI4", blob, at)
    if index >= seal then
      names[n + 1] = field(baseLevel, index)
      names[n + 2] = idsField(index)
      n = n + 2
      for o = 1, #objects do
        n = n + 1
        names[n] = objectField(objects[o].id, baseLevel, index)
      end
    end
    at = at + 10 + bytes
  end
  for i = #names, n + 1, -1 do names[i] = nil end
  local values = n <= 200 and redis.call("HMGET", key, unpack(names)) or readMany(key, names)
  local meta = readMeta(values[1], seal)
  local born = not values[1]
  local newestBefore, newestEnd = meta.newest[1], newestBelow(g, meta, seal)
  local stamp = pack("<I4", nowMs % 4294967296)
  local record, applied, written, cursor, stale = 0, 0, 2, 2, nil
  outcomes = 0
  at = 2
  while at < size do
    local index, count, bytes = unpackStruct("<I4HI4", blob, at)
    at = at + 10
    if index < seal then
      for _ = 1, count do
        record = record + 1
        except(record, "\2")
      end
      at = at + bytes
    else
      local raw, ids, chunks = values[cursor], values[cursor + 1] or "", nil
      local first, fresh, states = cursor + 2, 0, nil
      cursor = cursor + 2 + #objects
      if #ids == 1 then chunks = openChunks(key, index, byte(ids)) end
      local layout, v = bornLayout(births, index), nil
      if raw then
        local wanted = layout
        layout, v = decode(raw)
        if layout ~= wanted then layout, v = widen(layout, v, wanted, g) end
      else
        v = emptyCells(layout, g)
      end
      for _ = 1, count do
        record = record + 1
        local id, offset, mask = unpackStruct("<c8I4I4", blob, at)
        local payload = payloadOf(g, mask)
        local values_, next_ = payload.values, at + 16
        if values_ == 1 then x[1], next_ = unpackStruct(payload.format, blob, next_)
        elseif values_ > 0 then
          local all = { unpackStruct(payload.format, blob, next_) }
          for i = 1, values_ do x[i] = all[i] end
          next_ = all[values_ + 1]
        end
        at = next_
        local known
        if chunks then known = findId(loadChunk(chunks, chunkOf(chunks, id)), id)
        elseif ids ~= "" then known = findId(ids, id) end
        if known then
          except(record, "\1" .. known)
        else
          if outcomes > 0 then except(record, "\0") end
          fresh = fresh + 1
          if chunks then
            local chunk = chunkOf(chunks, id)
            local content = chunks.chunks[chunk] .. id .. stamp
            chunks.chunks[chunk] = content
            chunks.dirty[chunk] = true
            if #content > CHUNK_LIMIT and chunks.bits < 8 then chunks = splitAgain(chunks) end
          else
            ids = ids .. id .. stamp
            if #ids > CHUNK_LIMIT then
              chunks = splitIds(key, index, { ids }, 0)
              if meta.flags % 2 == 0 then meta.flags = meta.flags + 1 end
            end
          end
          local program = programOf(g, layout, mask)
          for p = 1, #program, 3 do
            local kind, cell = program[p], program[p + 1]
            if kind == COUNT then
              v[cell] = v[cell] + 1
            else
              local value = x[program[p + 2]]
              if kind == SUM then v[cell + 1] = v[cell + 1] + value
              elseif kind == MINIMUM then if value < v[cell] then v[cell] = value end
              elseif kind == MAXIMUM then if value > v[cell] then v[cell] = value end
              else
                v[cell] = v[cell] + value
                v[cell + 1] = v[cell + 1] + x[program[p + 2] + 1]
              end
            end
          end
          local time = index * base + offset
          for o = 1, #objects do
            local object = objects[o]
            local found, birth = payload.channels[object.channel], births.objects[object.id]
            if found and birth and index >= birth then
              local before = states and states[o]
              if before == nil then before = values[first + o - 1] or nil end
              local after
              if object.kind == "distinct" then after = addHash(before, x[found.hash])
              else after = mergeObject(object.kind, before, pack("<d", time) .. id .. x[found.object]) end
              if after ~= before then
                states = states or {}
                states[o] = after
              end
            end
          end
          keepNewest(meta.newest, time, base, g.newestKept)
        end
      end
      if fresh > 0 then
        applied = applied + fresh
        out[written + 1], out[written + 2] = field(baseLevel, index), encode(layout, v)
        written = written + 2
        if not chunks then
          out[written + 1], out[written + 2] = idsField(index), ids
          written = written + 2
        else
          if chunks.stale then
            stale = stale or {}
            for i = 1, #chunks.stale do insert(stale, chunks.stale[i]) end
          end
          if chunks.split then
            out[written + 1], out[written + 2] = idsField(index), char(chunks.bits)
            written = written + 2
          end
          for chunk in pairs(chunks.dirty) do
            out[written + 1], out[written + 2] = chunkField(index, chunk), chunks.chunks[chunk]
            written = written + 2
          end
        end
        if states then
          for o, state in pairs(states) do
            out[written + 1], out[written + 2] = objectField(objects[o].id, baseLevel, index), state
            written = written + 2
          end
        end
      end
    end
  end
  if applied > 0 then
    local stays = floor(meta.flags / 2) % 2 == 1
    local hour = born or floor(meta.newest[1] / 3600000) ~= floor((newestBefore or 0) / 3600000)
    if g.expire and hour and stays then meta.flags = meta.flags - 2 end
    if not g.expire and not stays then
      -- A plan without a lifetime window may have given the key an end.
      meta.flags = meta.flags + 2
      if not born then redis.call("PERSIST", key) end
    end
    out[1], out[2] = "m", writeMeta(meta, nowUs)
    for i = #out, written + 1, -1 do out[i] = nil end
    if stale then deleteMany(key, stale) end
    if written <= 200 then redis.call("HSET", key, unpack(out)) else writeMany(key, out) end
    if g.expire and hour then redis.call("PEXPIREAT", key, max(meta.newest[1], nowMs) + g.expire) end
  end
  if not frozen and not born and foldDue(g, meta, seal) then
    fold(key, g, meta, seal, births, newestEnd)
    redis.call("HSET", key, "m", writeMeta(meta, nowUs))
  end
  if outcomes == 0 then return nil end
  for i = outcomes + 1, record do outcome[i] = "\0" end
  return concat(outcome, "", 1, record)
end

local function bind()
  pack, unpackStruct = struct.pack, struct.unpack
  byte, char, sub, find, rep = string.byte, string.char, string.sub, string.find, string.rep
  floor, min, max, huge = math.floor, math.min, math.max, math.huge
  concat, insert = table.concat, table.insert
  for _, g in pairs(SPEC) do
    GROUP_FIELDS[#GROUP_FIELDS + 1] = "g:" .. g.name
    g.position = #GROUP_FIELDS
    g.payloads, g.kindOf, g.objectById = {}, {}, {}
    for i = 1, #g.cells do g.kindOf[g.cells[i].id] = g.cells[i].kind end
    for i = 1, #g.objects do g.objectById[g.objects[i].id] = g.objects[i] end
  end
end

-- Runs `one(key, blob, group, seal, births)` for every key of a call.
local function each(keys, args, one)
  if not pack then bind() end
  local refused, frozen = begin(keys, args)
  if refused then return refused end
  local clock = redis.call("TIME")
  local nowUs = clock[1] * 1000000 + clock[2]
  local nowMs = floor(nowUs / 1000)
  local controls, replies, exceptional = {}, {}, false
  local raw = redis.call("HMGET", keys[1], unpack(GROUP_FIELDS))
  -- All groups first: a call that is refused has changed nothing.
  for k = 2, #keys do
    local id = byte(args[k], 1)
    if not controls[id] then
      local g = SPEC[id]
      if not g then return { GROUP_UNKNOWN, id } end
      if not raw[g.position] then return { GROUP_NEW, id } end
      local seal, births = readGroupControl(raw[g.position], g)
      -- A slot that this library does not know belongs to a newer plan: its cells would be lost in a fold by this one.
      controls[id] = { group = g, seal = seal, births = births, held = frozen or births.foreign }
    end
  end
  for k = 2, #keys do
    local blob = args[k]
    local c = controls[byte(blob, 1)]
    local outcome = one(keys[k], blob, c.group, c.seal, c.births, nowMs, nowUs, c.held)
    replies[k - 1] = outcome or ""
    if outcome then exceptional = true end
  end
  local reply = { nowMs, frozen and 1 or 0 }
  if exceptional then for i = 1, #replies do reply[i + 2] = replies[i] end end
  return reply
end

local function touchEntity(key, _, g, seal, births, _, nowUs, frozen)
  local raw = redis.call("HGET", key, "m")
  if raw and not frozen then
    local meta = readMeta(raw, seal)
    if seal > meta.folded then
      fold(key, g, meta, seal, births, newestBelow(g, meta, seal))
      redis.call("HSET", key, "m", writeMeta(meta, nowUs))
    end
  end
  return nil
end

local function apply(keys, args) return each(keys, args, applyEntity) end
local function touch(keys, args) return each(keys, args, touchEntity) end
--@REGISTER@
