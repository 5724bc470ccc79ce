--- @include wrong_type
--- @keys SPONSORSHIP META NEGATIVE PENDING

-- Returns an error sentence for the first wrong-type key of a person's metadata (META, PENDING,
-- NEGATIVE) and entitlements, or nil.
local function wrong_person_type(id, sponsorables)
  local wrong = wrong_type(K.META(id), 'hash') or wrong_type(K.PENDING(id), 'hash')
    or wrong_type(K.NEGATIVE(id), 'set')
  for _, sponsorable in ipairs(sponsorables) do
    wrong = wrong or wrong_type(K.SPONSORSHIP(sponsorable, id), 'hash')
  end
  return wrong
end
