-- A text that stands for all versions of a person and for every reason to travel since (a change that
-- waits and a cover that ended raise no version). It sorts the names of the parts.
local function stamp_of(notes, parts)
  table.sort(parts)
  local stamp = { (notes.x or '0') .. '/' .. (notes.m or '0') }
  for i, part in ipairs(parts) do
    stamp[i + 1] = part .. '=' .. notes['v:' .. part]
  end
  return table.concat(stamp, ' ')
end
