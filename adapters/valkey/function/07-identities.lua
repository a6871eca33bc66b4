-- Identities of a base tile: one field of 12 bytes each, or, once there are many, 2^bits fields.

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
    content = call("HGET", ids.key, chunkField(ids.index, chunk)) or ""
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
