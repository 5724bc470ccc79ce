-- Returns the sponsorable of a part `entitlement:{sponsorable}`, or false. Matches each name once.
local sponsorables_by_part = {}
local function sponsorable_of(part)
  local found = sponsorables_by_part[part]
  if found == nil then
    found = string.match(part, '^entitlement:(.+)$') or false
    sponsorables_by_part[part] = found
  end
  return found
end
