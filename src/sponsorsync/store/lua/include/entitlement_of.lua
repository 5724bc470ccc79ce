--- @include evaluate_entitlement
--- @keys SPONSORSHIP

-- Returns what evaluate_entitlement does for the stored facts; false for a wrong-type key, which
-- pack.lua reports.
local function entitlement_of(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE))
  if facts.err then
    return false
  end
  return evaluate_entitlement(unpack(facts))
end
