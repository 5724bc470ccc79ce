-- Returns a text that differs after any change of a person: the versions of their deletion and of
-- all parts, and `m`, how often they were marked dirty. `m` is needed because a pending change and
-- the end of an entitlement mark a person dirty without a new version. Sorts `parts`.
local function version_vector_of(fields, parts)
  table.sort(parts)
  local version_vector = { (fields.x or '0') .. '/' .. (fields.m or '0') }
  for i, part in ipairs(parts) do
    version_vector[i + 1] = part .. '=' .. fields['v:' .. part]
  end
  return table.concat(version_vector, ' ')
end
