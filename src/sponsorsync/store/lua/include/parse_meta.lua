-- Returns the reply of HGETALL for meta as a table, the names of the parts that have a version, and
-- whether durable may hold a copy of any collection (a field 'd:'). Most people have the same
-- fields, so the match of each field name is cached for the script.
local matches = {}
local function parse_meta(flat)
  local fields, parts, holds_copy = {}, {}, false
  for i = 1, #flat, 2 do
    local field = flat[i]
    fields[field] = flat[i + 1]
    local match = matches[field]
    if not match then
      match = { string.match(field, '^([vd]):(.+)$') }
      matches[field] = match
    end
    if match[1] == 'v' then
      parts[#parts + 1] = match[2]
    elseif match[1] then
      holds_copy = true
    end
  end
  return fields, parts, holds_copy
end
