-- Cells of a tile: u8 n, n slot ids ascending, n cells

local layouts, layoutCount = {}, 0
local function layoutOf(header)
  local layout = layouts[header]
  if layout then return layout end
  if layoutCount > 4096 then layouts, layoutCount = {}, 0 end
  local format, position, at, wide, limits, ids, bytes = {}, {}, 1, {}, {}, {}, #header
  for i = 2, #header do
    local id = byte(header, i)
    ids[i - 1] = id
    position[id] = at
    format[i - 1] = CLASS_FORMAT[class(id)]
    bytes = bytes + CLASS_BYTES[class(id)]
    if WIDE[class(id)] then
      wide[#wide + 1] = at
      limits[#wide] = WIDE_LIMIT[class(id)]
    end
    at = at + (WIDE[class(id)] and 2 or 1)
  end
  local cells = concat(format)
  layout = { header = header, format = "<c" .. #header .. cells, cellFormat = "<" .. cells, position = position, wide = wide,
             limits = limits, ids = ids, bytes = bytes, cells = at - 1, programs = {}, unions = {}, empty = {} }
  layouts[header] = layout
  layoutCount = layoutCount + 1
  return layout
end

local function headerOf(ids)
  table.sort(ids)
  return char(#ids, unpackTable(ids))
end

-- Whether a cell of class 1 is a minimum or a maximum is the group's to say.
local function emptyOf(layout, g)
  local v = layout.empty[g.id]
  if v then return v end
  v = {}
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
  layout.empty[g.id] = v
  return v
end

local function emptyCells(layout, g) return { unpackTable(emptyOf(layout, g), 1, layout.cells) } end

-- Behind the cells is struct.unpack's last result, the next position, for which nobody asks.
local function decode(tile)
  local n = byte(tile, 1)
  local layout = layoutOf(sub(tile, 1, n + 1))
  return layout, { unpackStruct(layout.cellFormat, tile, n + 2) }
end

local function encode(layout, v)
  local wide = layout.wide
  for i = 1, #wide do
    local at = wide[i]
    local lo = v[at + 1]
    if lo < 0 or lo >= LOW then
      local carry = floor(lo / LOW)
      v[at] = v[at] + carry
      v[at + 1] = lo - carry * LOW
    end
    -- Cells are as wide as their bytes: a high part that grew past them would wrap around and look like a small sum.
    local limit = layout.limits[i]
    if v[at] >= limit then v[at], v[at + 1] = limit, 0
    elseif v[at] < -limit then v[at], v[at + 1] = -limit, 0 end
  end
  return pack(layout.format, layout.header, unpackTable(v, 1, layout.cells))
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
