--- @keys SPONSORSHIP

-- Returns the grants in the JSON of a field `also` as a list; skips values that are no grants.
local function parse_grants(also)
  local is_fine, values = pcall(cjson.decode, type(also) == 'string' and also or '[]')
  local grants = {}
  for _, grant in ipairs(is_fine and type(values) == 'table' and values or {}) do
    if type(grant) == 'table' then
      grants[#grants + 1] = grant
    end
  end
  return grants
end

local function grants_of(id, sponsorable)
  return parse_grants(redis.pcall('HGET', K.SPONSORSHIP(sponsorable, id), 'also'))
end
