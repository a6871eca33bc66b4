-- What the calls share, and the calls themselves; `--@REGISTER@` is replaced by their registration.

local function bind()
  call, pack, unpackStruct, unpackTable = redis.call, struct.pack, struct.unpack, unpack
  byte, char, sub, find, rep = string.byte, string.char, string.sub, string.find, string.rep
  floor, min, max, huge = math.floor, math.min, math.max, math.huge
  concat, insert = table.concat, table.insert
  for _, g in pairs(SPEC) do
    CONTROL_FIELDS[#CONTROL_FIELDS + 1] = "g:" .. g.name
    g.position = #CONTROL_FIELDS
    g.payloads, g.kindOf, g.objectById = {}, {}, {}
    g.controls, g.controlCount, g.tiles, g.tileCount = {}, 0, {}, 0
    for i = 1, #g.cells do g.kindOf[g.cells[i].id] = g.cells[i].kind end
    for i = 1, #g.objects do g.objectById[g.objects[i].id] = g.objects[i] end
  end
end

-- Runs `one(key, blob, group, seal, births)` for every key of a call.
local function each(keys, args, one)
  if not pack then bind() end
  local raw = call("HMGET", keys[1], unpackTable(CONTROL_FIELDS))
  local refused, frozen = begin(keys[1], raw[1], args[1])
  if refused then return refused end
  local clock = call("TIME")
  local nowUs = clock[1] * 1000000 + clock[2]
  local nowMs = floor(nowUs / 1000)
  local controls, replies, exceptional = {}, {}, false
  -- All groups first: a call that is refused has changed nothing.
  for k = 2, #keys do
    local id = byte(args[k], 1)
    if not controls[id] then
      local g = SPEC[id]
      if not g then return { GROUP_UNKNOWN, id } end
      if not raw[g.position] then return { GROUP_NEW, id } end
      controls[id] = readGroupControl(raw[g.position], g)
    end
  end
  walked = 0
  for k = 2, #keys do
    local blob = args[k]
    local c = controls[byte(blob, 1)]
    -- A slot that this library does not know belongs to a newer plan: its cells would be lost in a fold by this one.
    local held = frozen or c.births.foreign
    local outcome = one(keys[k], blob, c.group, c.seal, c.births, nowMs, nowUs, held)
    replies[k - 1] = outcome or ""
    if outcome then exceptional = true end
  end
  local reply = { nowMs, frozen and 1 or 0 }
  if exceptional then for i = 1, #replies do reply[i + 2] = replies[i] end end
  return reply
end

local function touchEntity(key, _, g, seal, births, _, nowUs, frozen)
  local raw = call("HGET", key, "m")
  if raw and not frozen then
    local meta = readMeta(raw, seal)
    if seal > meta.folded and fold(key, g, meta, seal, births, newestBelow(g, meta, seal)) then
      call("HSET", key, "m", writeMeta(meta, nowUs))
    end
  end
  return nil
end

local function apply(keys, args) return each(keys, args, applyEntity) end
local function touch(keys, args) return each(keys, args, touchEntity) end
local function put(keys, args) return each(keys, args, putEntity) end
local function mend(keys, args) return each(keys, args, mendEntity) end

local function push(keys, args)
  if not pack then bind() end
  local refused, frozen = begin(keys[1], call("HGET", keys[1], "c"), args[1])
  if refused then return refused end
  local clock = call("TIME")
  local nowUs = clock[1] * 1000000 + clock[2]
  local nowMs = floor(nowUs / 1000)
  local reply = { nowMs, frozen and 1 or 0 }
  for k = 2, #keys do reply[k + 1] = pushEntity(keys[k], args[k], nowMs, nowUs) end
  return reply
end

-- Allowed while the store is being restored, to a caller that replays: what is erased must not be seen when it opens.
local function erase(keys, args)
  if not pack then bind() end
  local refused, frozen = begin(keys[1], call("HGET", keys[1], "c"), args[1])
  if refused then return refused end
  local clock = call("TIME")
  local nowUs = clock[1] * 1000000 + clock[2]
  local reply = { floor(nowUs / 1000), frozen and 1 or 0 }
  for k = 2, #keys do
    local id, before, keep, clean = unpackStruct("<BddB", args[k])
    local gone
    if id == 0 then gone = erasePushed(keys[k], before, keep, clean, nowUs)
    else
      local g = SPEC[id]
      if not g then return { GROUP_UNKNOWN, id } end
      local raw = call("HGET", keys[1], "g:" .. g.name)
      if not raw then return { GROUP_NEW, id } end
      gone = eraseEntity(keys[k], g, readGroupControl(raw, g).seal, before, keep, clean, nowUs)
    end
    reply[k + 1] = pack("<I4", gone)
  end
  return reply
end
--@REGISTER@
