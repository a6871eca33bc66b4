-- Cells of a tile: u8 n, n slot ids ascending, n cells

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
