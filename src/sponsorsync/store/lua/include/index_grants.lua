--- @include versions
--- @keys MEMBERS ORGANIZATIONS LINKED_ACCOUNTS

local function holds_seat(grant)
  return grant.organization_id and grant.member_until and grant.has_seat ~= false
end

local function members_index(sponsorable, grant)
  return K.MEMBERS(sponsorable, string.format('%.0f', grant.organization_id))
end

-- Requests that all members of an organization, or only `member`, are evaluated again
-- (organization_members.py). Each request has its own version, so that a replica removes only the
-- request that it has handled, and no later one.
local function mark_organization_changed(sponsorable, id, member)
  local field = sponsorable .. ':' .. id .. (member and ':' .. member or '')
  redis.pcall('HSET', K.ORGANIZATIONS, field, next_version())
end

-- Returns the key of the index from accounts at a grant's source to the people that linked them;
-- nil for a grant without an account.
local function accounts_index(sponsorable, grant)
  return grant.account_id and K.LINKED_ACCOUNTS(tostring(grant.source), sponsorable)
end

-- Updates the indexes of members and of linked accounts after a person's grants have changed.
-- Requests that a new member is evaluated again: the organization's sponsorship may have changed
-- since the grant was made.
local function index_grants(id, sponsorable, old_grants, new_grants)
  local was_member = {}
  for _, grant in ipairs(old_grants) do
    local accounts = accounts_index(sponsorable, grant)
    if accounts and redis.pcall('HGET', accounts, grant.account_id) == id then
      redis.pcall('HDEL', accounts, grant.account_id)
    end
    if holds_seat(grant) then
      was_member[grant.organization_id] = true
      redis.pcall('ZREM', members_index(sponsorable, grant), id)
    end
  end
  for _, grant in ipairs(new_grants) do
    local accounts = accounts_index(sponsorable, grant)
    if accounts then
      redis.pcall('HSET', accounts, grant.account_id, id)
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
