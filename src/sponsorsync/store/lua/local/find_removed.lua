-- On local: finds the members of durable's copy of a collection that the person, who is not
-- entitled, has removed on local.
--
-- ARGV  1 person id  2 collection  3 … the members of durable's copy
-- Replies  {version of the collection on local, each member that local lacks} | {} (the collection
--          is unknown on local, or belongs to an anonymous visitor)
--- @include is_visitor check_members presence version_of
--- @keys PREFERENCES META

local id, collection = ARGV[1], ARGV[2]
local set, meta = K.PREFERENCES(id, collection), K.META(id)

if is_visitor(id) or presence(meta, collection, set) == 'unknown' then
  return {}
end
local answer = { string.format('%.0f', version_of(meta, collection)) }
check_members(set, ARGV, 3, #ARGV, function(i, is_member)
  if is_member == 0 then
    answer[#answer + 1] = ARGV[i]
  end
end)
return answer
