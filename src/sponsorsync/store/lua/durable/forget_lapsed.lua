-- On durable: ends the retention of one person's preferences, unless they are entitled again or the
-- lapse is not the one that was listed.
--
-- ARGV  1 person id  2 the second of the lapse, as listed  3 JSON [sponsorable]
-- Replies  names and sizes of the collections that were removed, alternately
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
local removed = {}

if tonumber(redis.call('ZSCORE', K.LAPSED, id) or '-1') ~= tonumber(ARGV[2]) then
  return removed
end
if is_entitled(id, cjson.decode(ARGV[3])) then
  redis.call('ZREM', K.LAPSED, id)
  return removed
end
for _, part in ipairs(parts_in(meta)) do
  local key = part_key(id, part)
  if part_type(part) == 'set' and wrong_type(key, 'set') == nil then
    removed[#removed + 1] = part
    removed[#removed + 1] = size_of(key)
    redis.call('DEL', key)
    -- The version stays: nothing older is ever taken again.
    redis.call('HDEL', meta, 'p:' .. part, 'n:' .. part)
  end
end
redis.call('ZREM', K.LAPSED, id)
redis.call('INCR', K.APPLIED)
return removed
