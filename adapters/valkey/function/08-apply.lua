-- Records of one entity, checked against their tiles' identities and folded into them: all of it is written by one HSET.

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
      if needs.bucket then found.bucket = at; at = at + 1; format[#format + 1] = "H" end
      if needs.object then found.object = at; at = at + 1; format[#format + 1] = "Hc0" end
      channels[c] = found
    end
  end
  -- Without an object every record of the mask has the same size, and the first pass need not read it.
  local size, variable = 0, false
  for _, found in pairs(channels) do
    size = size + (found.value and 8 or 0) + (found.squares and 16 or 0) + (found.hash and 4 or 0) + (found.bucket and 2 or 0)
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

local x = {} -- values of one record's payload

-- The record at a place of a blob, its values in `x`, and where the next one begins.
local function readRecord(g, blob, at)
  local id, offset, mask = unpackStruct("<c8I4I4", blob, at)
  local payload = payloadOf(g, mask)
  local count, next_ = payload.values, at + 16
  if count == 1 then x[1], next_ = unpackStruct(payload.format, blob, next_)
  elseif count > 0 then
    local all = { unpackStruct(payload.format, blob, next_) }
    for i = 1, count do x[i] = all[i] end
    next_ = all[count + 1]
  end
  return id, offset, mask, payload, next_
end

-- Folds the record in `x` into cells.
local function addToCells(g, layout, v, mask)
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
end

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
  local erased = meta.flags >= ERASED_FLAG and erasedBefore(key) or 0
  local newestBefore, newestEnd = meta.newest[1], newestBelow(g, meta, seal)
  local stamp = pack("<I4", nowMs % 4294967296)
  local record, applied, written, cursor, stale = 0, 0, 2, 2, nil
  -- A restored entity may be folded further than the seal that its bucket was restored with: its identities below are gone,
  -- and what was applied there is in its tiles.
  local closed = max(seal, meta.folded)
  outcomes = 0
  at = 2
  while at < size do
    local index, count, bytes = unpackStruct("<I4HI4", blob, at)
    at = at + 10
    if index < closed or index * base < erased then
      -- What is erased is neither late nor waits for repair.
      local code = index * base < erased and "\3" or "\2"
      for _ = 1, count do
        record = record + 1
        except(record, code)
      end
      at = at + bytes
      if index >= seal then cursor = cursor + 2 + #objects end
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
        local id, offset, mask, payload
        id, offset, mask, payload, at = readRecord(g, blob, at)
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
          addToCells(g, layout, v, mask)
          local time = index * base + offset
          for o = 1, #objects do
            local object = objects[o]
            local found, birth = payload.channels[object.channel], births.objects[object.id]
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
    if g.expire and hour then expireAt(key, meta, max(meta.newest[1], nowMs) + g.expire) end
  end
  if not frozen and not born and foldDue(g, meta, seal) and fold(key, g, meta, seal, births, newestEnd) then
    redis.call("HSET", key, "m", writeMeta(meta, nowUs))
  end
  if outcomes == 0 then return nil end
  for i = outcomes + 1, record do outcome[i] = "\0" end
  return concat(outcome, "", 1, record)
end
