-- Returns the reply of HGETALL, a flat list, as a table. Scripts that handle many people read a
-- whole hash so, instead of field by field.
local function parse_hash(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end
