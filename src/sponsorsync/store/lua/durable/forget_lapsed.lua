-- On durable: deletes the preferences of a person whose retention time is over. Deletes nothing if
-- the person is entitled again, or has lapsed again since the caller read LAPSED.
--
-- ARGV  1 person id  2 the time of the lapse (in Unix seconds), as the caller read it in LAPSED
--       3 JSON [sponsorable]
-- Replies  a flat list: name and size of each collection that was deleted
--- @include entitlement_of part_key part_type parts_in size_of wrong_type
--- @keys META APPLIED LAPSED

local function is_entitled(id, sponsorables)
  for _, sponsorable in ipairs(sponsorables) do
    if entitlement_of(id, sponsorable) then
      return true
    end
  end
  return false
end

local id, meta = ARGV[1], K.META(ARGV[1])
local deleted = {}

if tonumber(redis.call('ZSCORE', K.LAPSED, id) or '-1') ~= tonumber(ARGV[2]) then
  return deleted
end
if is_entitled(id, cjson.decode(ARGV[3])) then
  redis.call('ZREM', K.LAPSED, id)
  return deleted
end
for _, part in ipairs(parts_in(meta)) do
  local key = part_key(id, part)
  if part_type(part) == 'set' and wrong_type(key, 'set') == nil then
    deleted[#deleted + 1] = part
    deleted[#deleted + 1] = size_of(key)
    redis.call('DEL', key)
    -- The version stays, so that no older copy is ever applied.
    redis.call('HDEL', meta, 'p:' .. part, 'n:' .. part)
  end
end
redis.call('ZREM', K.LAPSED, id)
redis.call('INCR', K.APPLIED)
return deleted
