--- @include judge_cover
--- @keys SPONSORSHIP

-- A foreign key in the place of the facts covers nobody; export.lua names it.
local function cover_of(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE))
  if facts.err then
    return false
  end
  return judge_cover(unpack(facts))
end
