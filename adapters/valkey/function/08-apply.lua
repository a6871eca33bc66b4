-- Records of one entity, checked against their tiles' identities and folded into them: all of it is written by one HSET.

local x = { 1 } -- a one, which counts add, then the values of one record's payload

-- How to read the payload of a mask of channels: struct format, and for each present channel where its values are in `x`.
local function payloadOf(g, mask)
  local payload = g.payloads[mask]
  if payload then return payload end
  local format, at, channels, rest, size, fixed = { "<" }, 2, {}, mask, 0, true
  for c = 1, #g.channels do
    local present = rest % 2 == 1
    rest = floor(rest / 2)
    if present then
      local needs, found = g.channels[c], {}
      if needs.value then found.value = at; at = at + 1; size = size + 8; format[#format + 1] = "d" end
      if needs.squares then found.squares = at; at = at + 2; size = size + 16; format[#format + 1] = "dd" end
      if needs.hash then found.hash = at; at = at + 1; size = size + 4; format[#format + 1] = "c4" end
      if needs.bucket then found.bucket = at; at = at + 1; size = size + 2; format[#format + 1] = "H" end
      if needs.object then found.object = at; at = at + 1; fixed = false; format[#format + 1] = "Hc0" end
      channels[c] = found
    end
  end
  payload = { mask = mask, format = concat(format), channels = channels, values = at - 2 }
  -- Without an object every record of the mask has the same size: one that is like the one before it is read in one step.
  if fixed and payload.values <= 4 then
    payload.whole, payload.length = "<c8I4I4" .. sub(payload.format, 2), 16 + size
  end
  g.payloads[mask] = payload
  return payload
end

-- What a payload does to a layout's cells: pairs of a cell and what is added to it, then of cells that keep the least, or the
-- greatest.
local function programOf(g, layout, payload)
  local program = layout.programs[payload]
  if program then return program end
  local adds, least, greatest = {}, {}, {}
  local function pair(list, cell, value)
    list[#list + 1] = cell
    list[#list + 1] = value
  end
  for i = 1, #g.cells do
    local cell = g.cells[i]
    local at, found = layout.position[cell.id], payload.channels[cell.channel]
    if at and found then
      if cell.kind == COUNT then pair(adds, at, 1)
      elseif cell.kind == SUM then pair(adds, at + 1, found.value)
      elseif cell.kind == MINIMUM then pair(least, at, found.value)
      elseif cell.kind == MAXIMUM then pair(greatest, at, found.value)
      else
        pair(adds, at, found.squares)
        pair(adds, at + 1, found.squares + 1)
      end
    end
  end
  program = { adds = adds, least = least, greatest = greatest }
  layout.programs[payload] = program
  return program
end

-- The record at a place of a blob, its values in `x`, and where the next one begins. `guess`: a payload that it probably has.
local function readRecord(g, blob, at, guess)
  local id, offset, mask
  if guess and guess.whole and at + guess.length - 1 <= #blob then
    id, offset, mask, x[2], x[3], x[4], x[5] = unpackStruct(guess.whole, blob, at)
    if mask == guess.mask then return id, offset, guess, at + guess.length end
  end
  id, offset, mask = unpackStruct("<c8I4I4", blob, at)
  local payload = payloadOf(g, mask)
  local count, next_ = payload.values, at + 16
  if count > 0 then
    local all = { unpackStruct(payload.format, blob, next_) }
    for i = 1, count do x[i + 1] = all[i] end
    next_ = all[count + 1]
  end
  return id, offset, payload, next_
end

-- Folds the record in `x` into cells.
local function addToCells(g, layout, v, payload)
  local program = programOf(g, layout, payload)
  local list = program.adds
  for p = 1, #list, 2 do
    local cell = list[p]
    v[cell] = v[cell] + x[list[p + 1]]
  end
  list = program.least
  for p = 1, #list, 2 do
    local value = x[list[p + 1]]
    if value < v[list[p]] then v[list[p]] = value end
  end
  list = program.greatest
  for p = 1, #list, 2 do
    local value = x[list[p + 1]]
    if value > v[list[p]] then v[list[p]] = value end
  end
end

local names, out = {}, {}
-- The base tiles of a call's entity: index, number of records, bytes of these.
local indices, counts, lengths = {}, {}, {}
local cells = {} -- of the tile that is being folded
local stamp, stampMs

-- Names of an open tile's fields: its cells, its identities, then its objects. A batch names few tiles, again and again.
local function namesOfTile(g, index)
  local names = g.tiles[index]
  if not names then
    if g.tileCount > 256 then g.tiles, g.tileCount = {}, 0 end
    local level = g.levels[1].id
    names = { field(level, index), idsField(index) }
    for o = 1, #g.objects do names[o + 2] = objectField(g.objects[o].id, level, index) end
    g.tiles[index] = names
    g.tileCount = g.tileCount + 1
  end
  return names
end

-- Asks for an entity's fields: meta, and for each tile that is open its cells, identities and objects. Returns their values,
-- and the number of tiles.
local function askFor(key, blob, g, seal)
  local size, perTile = #blob, 2 + #g.objects
  local at, n, tiles = 2, 1, 0
  names[1] = "m"
  while at < size do
    local index, count, bytes = unpackStruct("<I4HI4", blob, at)
    tiles = tiles + 1
    indices[tiles], counts[tiles], lengths[tiles] = index, count, bytes
    if index >= seal then
      local own = namesOfTile(g, index)
      for i = 1, perTile do names[n + i] = own[i] end
      n = n + perTile
    end
    at = at + 10 + bytes
  end
  if n <= 200 then return call("HMGET", key, unpackTable(names, 1, n)), tiles end
  for i = #names, n + 1, -1 do names[i] = nil end
  return readMany(key, names), tiles
end

-- A stored tile's cells, or empty ones, in a layout that holds `wanted`'s slots. One table serves all: they are written before
-- the next ones are read.
local function openCells(raw, wanted, g)
  if not raw then
    local empty = emptyOf(wanted, g)
    for i = 1, wanted.cells do cells[i] = empty[i] end
    return wanted, cells
  end
  if #raw == wanted.bytes and wanted.cells <= 8 then
    local header
    header, cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7], cells[8] = unpackStruct(wanted.format, raw)
    if header == wanted.header then return wanted, cells end
  end
  local layout, v = decode(raw)
  if layout == wanted then return layout, v end
  return widen(layout, v, wanted, g)
end

local outcome, outcomes = {}, 0

-- Notes the outcome of a record; nothing is kept while all are applied, which is the common case.
local function except(record, code)
  if outcomes == 0 then for i = 1, record - 1 do outcome[i] = "\0" end end
  outcome[record] = code
  outcomes = record
end

local function applyEntity(key, blob, g, seal, births, nowMs, nowUs, frozen)
  local objects, base = g.objects, g.base
  local values, tiles = askFor(key, blob, g, seal)
  local meta = readMeta(values[1], seal)
  local born = not values[1]
  local erased = meta.flags >= ERASED_FLAG and erasedBefore(key) or 0
  local due = not frozen and not born and foldDue(g, meta, seal)
  local newestBefore, newestEnd = meta.newest[1], due and newestBelow(g, meta, seal)
  if nowMs ~= stampMs then stamp, stampMs = pack("<I4", nowMs % 4294967296), nowMs end
  local record, applied, written, cursor, stale = 0, 0, 2, 2, nil
  -- A restored entity may be folded further than the seal that its bucket was restored with: its identities below are gone,
  -- and what was applied there is in its tiles.
  local closed = seal
  if meta.folded > seal then closed = meta.folded end
  local at, guess = 2, nil
  outcomes = 0
  for t = 1, tiles do
    local index, count = indices[t], counts[t]
    at = at + 10
    if index < closed or index * base < erased then
      -- What is erased is neither late nor waits for repair.
      local code = index * base < erased and "\3" or "\2"
      for _ = 1, count do
        record = record + 1
        except(record, code)
      end
      at = at + lengths[t]
      if index >= seal then cursor = cursor + 2 + #objects end
    else
      local ids, chunks = values[cursor + 1] or "", nil
      local first, fresh, states, newest = cursor + 2, 0, nil, -1
      local layout, v = openCells(values[cursor], bornLayout(births, index), g)
      cursor = cursor + 2 + #objects
      if #ids == 1 then chunks = openChunks(key, index, byte(ids)) end
      for _ = 1, count do
        record = record + 1
        local id, offset
        id, offset, guess, at = readRecord(g, blob, at, guess)
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
          addToCells(g, layout, v, guess)
          local time = index * base + offset
          if time > newest then newest = time end
          for o = 1, #objects do
            local object = objects[o]
            local found, birth = guess.channels[object.channel], births.objects[object.id]
            if found and birth and index >= birth then
              local before = states and states[o]
              if before == nil then before = values[first + o - 1] or nil end
              local after = addToObject(object, before, time, id, found, x)
              if after ~= before then
                states = states or {}
                states[o] = after
              end
            end
          end
        end
      end
      if fresh > 0 then
        local own = namesOfTile(g, index)
        applied = applied + fresh
        keepNewest(meta.newest, newest, base, g.newestKept)
        out[written + 1], out[written + 2] = own[1], encode(layout, v)
        written = written + 2
        if not chunks then
          out[written + 1], out[written + 2] = own[2], ids
          written = written + 2
        else
          if chunks.stale then
            stale = stale or {}
            for i = 1, #chunks.stale do insert(stale, chunks.stale[i]) end
          end
          if chunks.split then
            out[written + 1], out[written + 2] = own[2], char(chunks.bits)
            written = written + 2
          end
          for chunk in pairs(chunks.dirty) do
            out[written + 1], out[written + 2] = chunkField(index, chunk), chunks.chunks[chunk]
            written = written + 2
          end
        end
        if states then
          for o, state in pairs(states) do
            out[written + 1], out[written + 2] = own[o + 2], state
            written = written + 2
          end
        end
      end
    end
  end
  if applied > 0 then
    local stays = floor(meta.flags / 2) % 2 == 1
    local newest = meta.newest[1]
    local hour = born or newest - newest % 3600000 ~= (newestBefore or 0) - (newestBefore or 0) % 3600000
    if g.expire and hour and stays then meta.flags = meta.flags - 2 end
    if not g.expire and not stays then
      -- A plan without a lifetime window may have given the key an end.
      meta.flags = meta.flags + 2
      if not born then call("PERSIST", key) end
    end
    out[1], out[2] = "m", writeMeta(meta, nowUs)
    if stale then deleteMany(key, stale) end
    if written <= 200 then call("HSET", key, unpackTable(out, 1, written))
    else
      for i = #out, written + 1, -1 do out[i] = nil end
      writeMany(key, out)
    end
    if g.expire and hour then expireAt(key, meta, max(newest, nowMs) + g.expire) end
  end
  if due and fold(key, g, meta, seal, births, newestEnd) then
    call("HSET", key, "m", writeMeta(meta, nowUs))
  end
  if outcomes == 0 then return nil end
  for i = outcomes + 1, record do outcome[i] = "\0" end
  return concat(outcome, "", 1, record)
end
