-- Returns the sponsorable of a part `entitlement:{sponsorable}`; false for any other part. The
-- match of each name is cached for the script.
local sponsorables_by_part = {}
local function sponsorable_of(part)
  local found = sponsorables_by_part[part]
  if found == nil then
    found = string.match(part, '^entitlement:(.+)$') or false
    sponsorables_by_part[part] = found
  end
  return found
end
