-- The sponsorable of a part `entitlement:{sponsorable}`, or false; asked once of each.
local known_sponsorables = {}
local function sponsorable_of(part)
  local found = known_sponsorables[part]
  if found == nil then
    found = string.match(part, '^entitlement:(.+)$') or false
    known_sponsorables[part] = found
  end
  return found
end
