--- @include versions
--- @keys MEMBERS ORGANIZATIONS LINKED_ACCOUNTS

local function holds_seat(grant)
  return grant.organization_id and grant.member_until and grant.has_seat ~= false
end

local function members_index(sponsorable, grant)
  return K.MEMBERS(sponsorable, string.format('%.0f', grant.organization_id))
end

-- Requests that the members of an organization, or one of them, are evaluated again
-- (organization_members.py). The version is used once: a replica removes only the request that it
-- has handled, and no later one.
local function mark_organization_changed(sponsorable, id, member)
  local field = sponsorable .. ':' .. id .. (member and ':' .. member or '')
  redis.pcall('HSET', K.ORGANIZATIONS, field, next_version())
end

-- Brings the indexes of organizations' members, and of patrons, from the grants that one person had
-- to those that they have. Whoever is new among an organization's members is judged again
-- (members.py): it may have changed since their grant was made, when nobody knew that it is about
-- them.
local function index_grants(id, sponsorable, had, grants)
  local patrons, was_member = K.LINKED_ACCOUNTS(sponsorable), {}
  for _, grant in ipairs(had) do
    if grant.patron_id and redis.pcall('HGET', patrons, grant.patron_id) == id then
      redis.pcall('HDEL', patrons, grant.patron_id)
    end
    if holds_seat(grant) then
      was_member[grant.organization_id] = true
      redis.pcall('ZREM', members_index(sponsorable, grant), id)
    end
  end
  for _, grant in ipairs(grants) do
    if grant.patron_id then
      redis.pcall('HSET', patrons, grant.patron_id, id)
    end
    if holds_seat(grant) then
      local until_s = string.format('%.0f', grant.member_until)
      redis.pcall('ZADD', members_index(sponsorable, grant), until_s, id)
      if not was_member[grant.organization_id] then
        mark_organization_changed(sponsorable, string.format('%.0f', grant.organization_id), id)
      end
    end
  end
end
