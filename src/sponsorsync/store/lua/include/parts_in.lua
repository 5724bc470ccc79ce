-- Returns the names of the parts that have a version in meta.
local function parts_in(meta)
  local parts = {}
  for _, field in ipairs(redis.call('HKEYS', meta)) do
    local part = string.match(field, '^v:(.+)$')
    if part then
      parts[#parts + 1] = part
    end
  end
  return parts
end
