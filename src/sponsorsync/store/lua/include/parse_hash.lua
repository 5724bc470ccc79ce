-- Returns the flat list of an HGETALL as a table. One call instead of several a part: for scripts
-- that handle many people.
local function parse_hash(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end
