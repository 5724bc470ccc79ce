--- @include evaluate_entitlement
--- @keys SPONSORSHIP

-- A wrong-type key in the place of the facts entitles nobody; pack.lua names it.
local function entitlement_of(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE))
  if facts.err then
    return false
  end
  return evaluate_entitlement(unpack(facts))
end
