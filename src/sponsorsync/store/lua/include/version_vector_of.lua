-- A text that stands for all versions of a person and for every reason to travel since (a change
-- that waits and an entitlement that ended raise no version). It sorts the names of the parts.
local function version_vector_of(notes, parts)
  table.sort(parts)
  local version_vector = { (notes.x or '0') .. '/' .. (notes.m or '0') }
  for i, part in ipairs(parts) do
    version_vector[i + 1] = part .. '=' .. notes['v:' .. part]
  end
  return table.concat(version_vector, ' ')
end
