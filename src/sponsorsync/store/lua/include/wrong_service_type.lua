--- @include wrong_type
--- @keys SPONSORS PEOPLE DIRTY OUTBOX ENTITLEMENT_ENDS

-- Returns an error sentence for the first wrong-type key among those that all people share, or nil.
-- `sponsorables` (or nil) are those whose index of entitled people is checked, too.
local function wrong_service_type(sponsorables)
  local wrong = wrong_type(K.DIRTY, 'set') or wrong_type(K.OUTBOX, 'stream')
    or wrong_type(K.PEOPLE, 'zset') or wrong_type(K.ENTITLEMENT_ENDS, 'zset')
  for _, sponsorable in ipairs(sponsorables or {}) do
    wrong = wrong or wrong_type(K.SPONSORS(sponsorable), 'set')
  end
  return wrong
end
