-- The same, the names of the parts that there is a version of, and whether durable may hold a copy
-- of one ('d:'). The fields are the same for most people, so each is taken apart once a script.
local taken_apart = {}
local function parse_meta(flat)
  local notes, parts, holds_copy = {}, {}, false
  for i = 1, #flat, 2 do
    local field = flat[i]
    notes[field] = flat[i + 1]
    local found = taken_apart[field]
    if not found then
      found = { string.match(field, '^([vd]):(.+)$') }
      taken_apart[field] = found
    end
    if found[1] == 'v' then
      parts[#parts + 1] = found[2]
    elseif found[1] then
      holds_copy = true
    end
  end
  return notes, parts, holds_copy
end
