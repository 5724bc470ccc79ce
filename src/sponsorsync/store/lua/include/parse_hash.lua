-- The fields of a meta, which redis replies as a flat list, as a table. For scripts that handle
-- many people: one call instead of several a part.
local function parse_hash(flat)
  local notes = {}
  for i = 1, #flat, 2 do
    notes[flat[i]] = flat[i + 1]
  end
  return notes
end
