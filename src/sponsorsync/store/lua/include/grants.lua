--- @keys SPONSORSHIP

-- The grants of an entitlement, by what else than their own sponsorship somebody is entitled, as a
-- table; what somebody else wrote in their place is none.
local function grants_in(also)
  local is_fine, told = pcall(cjson.decode, type(also) == 'string' and also or '[]')
  local grants = {}
  for _, grant in ipairs(is_fine and type(told) == 'table' and told or {}) do
    if type(grant) == 'table' then
      grants[#grants + 1] = grant
    end
  end
  return grants
end

local function grants_of(id, sponsorable)
  return grants_in(redis.pcall('HGET', K.SPONSORSHIP(sponsorable, id), 'also'))
end
