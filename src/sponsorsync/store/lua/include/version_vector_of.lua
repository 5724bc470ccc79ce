-- Returns a text of all versions of a person, and of `m`, which counts the reasons to travel: a
-- pending change and the end of an entitlement raise no version. Sorts `parts`.
local function version_vector_of(fields, parts)
  table.sort(parts)
  local version_vector = { (fields.x or '0') .. '/' .. (fields.m or '0') }
  for i, part in ipairs(parts) do
    version_vector[i + 1] = part .. '=' .. fields['v:' .. part]
  end
  return table.concat(version_vector, ' ')
end
