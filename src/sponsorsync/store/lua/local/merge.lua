-- On local: merges one person's record of durable into local.
--
-- With a token, this ends a fetch: it fills the unknown parts and then applies the pending changes.
-- It does nothing unless the lease still has this token: a write or a flush since the fetch began
-- has deleted the lease, and durable's data may be older than that. Without a token, local has come
-- back older (an old backup, say): it takes only the parts that are known on local and newer on
-- durable.
--
-- ARGV  1 the lease's token, or ''  2 JSON {"sponsorables": [login], "collections": [name]}
--       3 person id  4 person record of pack.lua
-- Replies  'ok' | 'lost' (the lease has another token) | an error that begins with 'WRONGTYPE'
--- @include audit call_in_chunks commit exists grants incoming_parts index_entitlement index_grants
--- @include is_visitor json_document evaluate_presence parse_hash now_s part_key part_type profile
--- @include suppress_capture save_hash sponsorable_of version_of versions wrong_service_type
--- @include wrong_type
--- @keys PREFERENCES SPONSORSHIP META UNPACKED LEASE NEGATIVE PENDING ENTITLEMENT_ENDS MEMBERS
--- @keys NEGATIVE_TTL_S

-- Returns a part's data as a flat list. Reads a dump by restoring it to a temporary key.
local function unpacked(kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', K.UNPACKED, 0, data, 'REPLACE')
    data = redis.call(kind == 'hash' and 'HGETALL' or 'SMEMBERS', K.UNPACKED)
    redis.call('DEL', K.UNPACKED)
  end
  return data
end

local token, catalog, id = ARGV[1], cjson.decode(ARGV[2]), ARGV[3]
local _, deleted, parts = unpack(cmsgpack.unpack(ARGV[4]))
local meta, pending, visitor = K.META(id), K.PENDING(id), is_visitor(id)

if token ~= '' and redis.call('GET', K.LEASE(id)) ~= token then
  return 'lost'
end

local expected = { PROFILE }
for _, sponsorable in ipairs(catalog.sponsorables) do
  expected[#expected + 1] = 'entitlement:' .. sponsorable
end
for _, collection in ipairs(catalog.collections) do
  if not visitor then
    expected[#expected + 1] = collection
  end
end

local wrong = wrong_type(meta, 'hash') or wrong_type(pending, 'hash')
  or wrong_service_type(catalog.sponsorables)
-- Whether each part has a key on local.
local is_there = {}
local function check(part)
  if is_there[part] == nil then
    local key = part_key(id, part)
    is_there[part] = exists(key)
    wrong = wrong or (is_there[part] and wrong_type(key, part_type(part)))
  end
end
for _, part in ipairs(parts) do
  check(part[1])
end
for _, part in ipairs(expected) do
  check(part)
end
if wrong then
  return wrong
end
-- The fields on the person's own sponsorship, which GitHub reports.
local OWN_FIELDS = {
  'checked_at', 'source', 'tier_cents', 'is_one_time', 'privacy', 'payment_source', 'since',
  'valid_until', 'unknown_since',
}
local old_grants = {}
for _, sponsorable in ipairs(catalog.sponsorables) do
  old_grants[sponsorable] = grants_of(id, sponsorable)
end
local answer = suppress_capture(function()
  local fields = parse_hash(redis.call('HGETALL', meta))
  if tonumber(deleted) > tonumber(fields.x or '0') then
    delete_up_to(id, meta, deleted)
    index_person(id, deleted)
    fields = parse_hash(redis.call('HGETALL', meta))
    for part in pairs(is_there) do
      is_there[part] = exists(part_key(id, part))
    end
  end
  deleted = tonumber(fields.x or '0')

  local function is_unknown(part)
    return evaluate_presence(fields['p:' .. part], is_there[part]) == 'unknown'
  end

  local function is_partial(part, key)
    return sponsorable_of(part) and exists(key) and redis.call('HEXISTS', key, 'partial') == 1
  end

  local changed, is_changed = {}, {}
  local function change(part)
    if not is_changed[part] then
      is_changed[part] = true
      changed[#changed + 1] = part
    end
  end

  -- Merges an unknown part that the application has written with durable's part. Keeps the contents
  -- of both: nobody has removed any of them.
  local function merge_sets(part, key, data)
    local kind = part_type(part)
    data = unpacked(kind, data)
    if kind == 'set' then
      call_in_chunks('SADD', key, data, 1, #data)
    else
      for i = 1, #data, 2 do
        redis.call('HSETNX', key, data[i], data[i + 1])
      end
    end
    change(part)
  end

  -- Replaces the grants of an entitlement.
  local function write_grants(key, grants)
    local also_until = 0
    for _, grant in ipairs(grants) do
      if grant.has_seat ~= false then
        also_until = math.max(also_until, grant['until'] or math.huge)
      end
    end
    redis.call('HDEL', key, 'also', 'also_until')
    if #grants > 0 then
      redis.call('HSET', key, 'also', cjson.encode(grants))
    end
    if also_until > 0 then
      also_until = also_until == math.huge and 'never' or string.format('%.0f', also_until)
      redis.call('HSET', key, 'also_until', also_until)
    end
  end

  -- Completes local's facts on the person's own sponsorship with durable's. Local's come from a
  -- later answer of GitHub and win. But there may be none, and not every answer has the tier and
  -- the announced end of a sponsorship.
  local function complete_own(key, own, durable)
    if not own.checked_at and durable.checked_at then
      for _, field in ipairs(OWN_FIELDS) do
        save_hash(key, { [field] = durable[field] or cjson.null })
      end
    elseif own.source == durable.source and own.since and own.since == durable.since then
      if durable.tier_cents then
        redis.call('HSETNX', key, 'tier_cents', durable.tier_cents)
      end
      if tonumber(durable.valid_until or '0') > now_s() then
        redis.call('HSETNX', key, 'valid_until', durable.valid_until)
      end
    end
  end

  -- Completes partial facts with durable's facts, and adds durable's grants. Leaves out a grant if
  -- local has one of the same source or organization, and grants of organizations if a login has
  -- shown all memberships.
  local function complete(sponsorable, key, data)
    local own, durable = parse_hash(redis.call('HGETALL', key)), parse_hash(data)
    complete_own(key, own, durable)
    local all_shown = own.memberships_checked_at and not own.memberships_unknown_since
    local grants, has = parse_grants(own.also), {}
    local function name_of(grant)
      return grant.organization_id or grant.source or ''
    end
    for _, grant in ipairs(grants) do
      has[name_of(grant)] = true
    end
    for _, grant in ipairs(parse_grants(durable.also)) do
      if not has[name_of(grant)] and not (all_shown and grant.organization_id) then
        grants[#grants + 1] = grant
      end
    end
    if not own.memberships_checked_at and durable.memberships_checked_at then
      redis.call('HSET', key, 'memberships_checked_at', durable.memberships_checked_at)
      if durable.memberships_unknown_since then
        redis.call('HSETNX', key, 'memberships_unknown_since', durable.memberships_unknown_since)
      end
    end
    redis.call('HDEL', key, 'partial')
    write_grants(key, grants)
    change('entitlement:' .. sponsorable)
  end

  local function without_account(grants, account)
    local kept = {}
    for _, grant in ipairs(grants) do
      if grant.account_id ~= account.account_id or grant.source ~= account.source then
        kept[#kept + 1] = grant
      end
    end
    return kept
  end

  -- Removes a linked account from another person, its present holder.
  local function remove_account(holder, sponsorable, account, grants)
    local key, part = K.SPONSORSHIP(sponsorable, holder), 'entitlement:' .. sponsorable
    local before = entitlement_for_audit(holder, sponsorable)
    write_grants(key, without_account(grants, account))
    index_grants(holder, sponsorable, grants, grants_of(holder, sponsorable))
    index_entitlement(holder, sponsorable)
    audit_entitlement(holder, sponsorable, before, account.source, '')
    commit(holder, K.META(holder), { part })
    derive_document(holder)
  end

  -- Ensures that a linked account entitles only one person, if the index names another holder: the
  -- person whose entitlement has the later version keeps it. `account` is this person's grant with
  -- the account. Returns the grants that this person keeps.
  local function settle_linked_account(sponsorable, account, grants)
    local accounts, part = accounts_index(sponsorable, account), 'entitlement:' .. sponsorable
    local holder = exists(accounts) and redis.pcall('HGET', accounts, account.account_id)
    if type(holder) ~= 'string' or holder == id or wrong_type(K.META(holder), 'hash') then
      return grants
    end
    local holder_grants = grants_of(holder, sponsorable)
    if #without_account(holder_grants, account) == #holder_grants then
      return grants
    elseif version_of(K.META(holder), part) >= version_of(meta, part) then
      return without_account(grants, account)
    end
    remove_account(holder, sponsorable, account, holder_grants)
    return grants
  end

  local function settle_linked_accounts(sponsorable, key)
    local grants = grants_of(id, sponsorable)
    local kept = grants
    for _, grant in ipairs(grants) do
      if grant.account_id then
        kept = settle_linked_account(sponsorable, grant, kept)
      end
    end
    if #kept < #grants then
      write_grants(key, kept)
      change('entitlement:' .. sponsorable)
    end
  end

  -- Collections that are known on local. Those of which durable has a newer version are removed
  -- below.
  local local_collections = {}
  for _, collection in ipairs(catalog.collections) do
    if not visitor and not is_unknown(collection) then
      local_collections[collection] = true
    end
  end

  local is_applied, is_newer, new_fields = {}, {}, {}
  for _, part in ipairs(parts) do
    local name, version, data = unpack(part)
    local key = part_key(id, name)
    local is_set = part_type(name) == 'set'
    if tonumber(version) > deleted and not (is_set and visitor) then
      local unknown = is_unknown(name)
      if unknown and token ~= '' and is_there[name] then
        merge_sets(name, key, data)
      elseif (unknown and token ~= '')
          or (not unknown and tonumber(version) > tonumber(fields['v:' .. name] or '0')) then
        write_key(key, part_type(name), data)
        add_part_fields(new_fields, name, version, data, part[4])
        index_person(id, version)
        local_collections[name], is_applied[name] = nil, true
        is_newer[name] = tonumber(version) > tonumber(fields['v:' .. name] or '0')
      elseif token ~= '' and is_partial(name, key) then
        complete(sponsorable_of(name), key, unpacked('hash', data))
      end
      if is_set then
        new_fields[#new_fields + 1] = 'd:' .. name
        new_fields[#new_fields + 1] = '1'
      end
    end
  end
  call_in_chunks('HSET', meta, new_fields, 1, #new_fields)
  local joined = false
  for _, sponsorable in ipairs(catalog.sponsorables) do
    local key = K.SPONSORSHIP(sponsorable, id)
    if token ~= '' and is_partial('entitlement:' .. sponsorable, key) then
      complete(sponsorable, key, {}) -- durable has no facts
    end
    settle_linked_accounts(sponsorable, key)
    index_grants(id, sponsorable, old_grants[sponsorable], grants_of(id, sponsorable))
    if is_newer['entitlement:' .. sponsorable] and exists(K.MEMBERS(sponsorable, id)) then
      mark_organization_changed(sponsorable, id)
    end
    local is_new, entitled, ends = index_entitlement(id, sponsorable)
    joined = joined or is_new
    if ends and not entitled then
      -- The entitlement may have ended while local had lost the index of ends. With this entry,
      -- sweep_entitlements.lua marks the person dirty, so that durable updates its indexes.
      redis.call('ZADD', K.ENTITLEMENT_ENDS, ends, sponsorable .. ':' .. id)
    end
  end
  if joined then
    -- The person was not in the index of entitled people: a login left them out (`is_verified` in
    -- save_facts.lua), or the index was lost. So their collections are pushed now.
    for collection in pairs(local_collections) do
      change(collection)
    end
  end
  if token == '' then
    if #changed > 0 then
      commit(id, meta, changed)
    end
    return 'ok'
  end

  local absent = {}
  for _, part in ipairs(expected) do
    if not is_changed[part] and not is_applied[part] and is_unknown(part) then
      if is_there[part] then
        -- Durable does not have this part, so local's key is complete.
        change(part)
      else
        absent[#absent + 1] = part
      end
    end
  end
  local waiting = redis.call('HGETALL', pending)
  for i = 1, #waiting, 2 do
    local collection, item = string.match(waiting[i], '^([^\n]+)\n(.*)$')
    redis.call(waiting[i + 1] == '+' and 'SADD' or 'SREM', K.PREFERENCES(id, collection), item)
    change(collection)
  end
  redis.call('DEL', pending)
  if #changed > 0 then
    commit(id, meta, changed)
  end
  redis.call('DEL', K.NEGATIVE(id), K.LEASE(id))
  for _, part in ipairs(absent) do
    if not is_changed[part] then
      redis.call('SADD', K.NEGATIVE(id), part)
      redis.call('EXPIRE', K.NEGATIVE(id), NEGATIVE_TTL_S)
    end
  end
  return 'ok'
end)
derive_document(id)
return answer
