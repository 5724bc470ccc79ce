--- @include wrong_type
--- @keys SPONSORSHIP META NEGATIVE PENDING

-- Returns the first sentence to refuse one person with, else nil: what is known of their
-- entitlements, and these themselves, lies in their own keys.
local function wrong_person_type(id, sponsorables)
  local wrong = wrong_type(K.META(id), 'hash') or wrong_type(K.PENDING(id), 'hash')
    or wrong_type(K.NEGATIVE(id), 'set')
  for _, sponsorable in ipairs(sponsorables) do
    wrong = wrong or wrong_type(K.SPONSORSHIP(sponsorable, id), 'hash')
  end
  return wrong
end
