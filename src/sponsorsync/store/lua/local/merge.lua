-- On local: takes what durable has of one person.
--
-- With a token this is the end of a fetch: it fills what is unknown, but only while the lease is
-- still that token's, so that nothing that was written or flushed meanwhile is overwritten with
-- what was read before; changes that waited for this are applied on top. Without one it only takes
-- parts that are known here and newer there: local came back older.
--
-- ARGV  1 the lease's token, or ''  2 JSON {"sponsorables": [login], "collections": [name]}
--       3 person id  4 package of pack.lua
-- Replies  'ok' | 'lost' (the lease is not ours any more) | an error that begins with 'WRONGTYPE'
--- @include audit call_in_chunks commit delete_up_to exists grants incoming_part index_entitlement
--- @include index_grants is_visitor json_document evaluate_presence parse_hash now_s part_key part_type
--- @include profile suppress_capture save_hash sponsorable_of version_of versions wrong_service_type
--- @include wrong_type
--- @keys PREFERENCES SPONSORSHIP META UNPACKED LEASE NEGATIVE PENDING ENTITLEMENT_ENDS MEMBERS
--- @keys NEGATIVE_TTL_S

-- Returns data as a flat list.
local function unpacked(kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', K.UNPACKED, 0, data, 'REPLACE')
    data = redis.call(kind == 'hash' and 'HGETALL' or 'SMEMBERS', K.UNPACKED)
    redis.call('DEL', K.UNPACKED)
  end
  return data
end

local token, known_names, id = ARGV[1], cjson.decode(ARGV[2]), ARGV[3]
local _, deleted, parts = unpack(cmsgpack.unpack(ARGV[4]))
local meta, pending, visitor = K.META(id), K.PENDING(id), is_visitor(id)

if token ~= '' and redis.call('GET', K.LEASE(id)) ~= token then
  return 'lost'
end

local expected = { PROFILE }
for _, sponsorable in ipairs(known_names.sponsorables) do
  expected[#expected + 1] = 'entitlement:' .. sponsorable
end
for _, collection in ipairs(known_names.collections) do
  if not visitor then
    expected[#expected + 1] = collection
  end
end

local wrong = wrong_type(meta, 'hash') or wrong_type(pending, 'hash')
  or wrong_service_type(known_names.sponsorables)
-- Asked once of each part: which of them lie here.
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
-- The fields of an entitlement that GitHub tells of the person's own sponsorship.
local OWN = {
  'checked_at', 'source', 'tier_cents', 'is_one_time', 'privacy', 'payment_source', 'since',
  'valid_until', 'unknown_since',
}
local had = {}
for _, sponsorable in ipairs(known_names.sponsorables) do
  had[sponsorable] = grants_of(id, sponsorable)
end
local answer = suppress_capture(function()
  local notes = parse_hash(redis.call('HGETALL', meta))
  if tonumber(deleted) > tonumber(notes.x or '0') then
    delete_up_to(id, meta, deleted)
    index_person(id, deleted)
    notes = parse_hash(redis.call('HGETALL', meta))
    for part in pairs(is_there) do
      is_there[part] = exists(part_key(id, part))
    end
  end
  deleted = tonumber(notes.x or '0')

  local function is_unknown(part)
    return evaluate_presence(notes['p:' .. part], is_there[part]) == 'unknown'
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

  -- What was written past the service, before anybody knew the part, and what durable has belong
  -- together: nobody removed either.
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

  -- Puts grants in the place of those of an entitlement.
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

  -- What durable knows of a person's own sponsorship is added to what GitHub told meanwhile. That
  -- is later, and counts; but it may be nothing at all, and of one sponsorship not everybody sees
  -- the tier, nor the end that was announced (fact_derivation.py).
  local function complete_own(key, mine, held)
    if not mine.checked_at and held.checked_at then
      for _, field in ipairs(OWN) do
        save_hash(key, { [field] = held[field] or cjson.null })
      end
    elseif mine.source == held.source and mine.since and mine.since == held.since then
      if held.tier_cents then
        redis.call('HSETNX', key, 'tier_cents', held.tier_cents)
      end
      if tonumber(held.valid_until or '0') > now_s() then
        redis.call('HSETNX', key, 'valid_until', held.valid_until)
      end
    end
  end

  -- Completes facts that were written while durable could not be asked. What else than GitHub
  -- entitles somebody durable tells, as far as local has learnt nothing of that kind, or of that
  -- organization; of none where a login showed all of them.
  local function complete(sponsorable, key, data)
    local mine, held = parse_hash(redis.call('HGETALL', key)), parse_hash(data)
    complete_own(key, mine, held)
    local all_shown = mine.memberships_checked_at and not mine.memberships_unknown_since
    local grants, has = grants_in(mine.also), {}
    local function name_of(grant)
      return grant.organization_id or grant.source or ''
    end
    for _, grant in ipairs(grants) do
      has[name_of(grant)] = true
    end
    for _, grant in ipairs(grants_in(held.also)) do
      if not has[name_of(grant)] and not (all_shown and grant.organization_id) then
        grants[#grants + 1] = grant
      end
    end
    if not mine.memberships_checked_at and held.memberships_checked_at then
      redis.call('HSET', key, 'memberships_checked_at', held.memberships_checked_at)
      if held.memberships_unknown_since then
        redis.call('HSETNX', key, 'memberships_unknown_since', held.memberships_unknown_since)
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

  -- Removes a linked account from its holder.
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

  -- A linked account counts for one person: the later one, if local did not know the earlier link.
  -- Compares versions too, since the index may be older than the incoming part. Returns the grants
  -- that this person keeps. `account` is the grant that names the account.
  local function settle_linked_account(sponsorable, account, grants)
    local accounts, part = accounts_index(sponsorable, account), 'entitlement:' .. sponsorable
    local holder = exists(accounts) and redis.pcall('HGET', accounts, account.account_id)
    if type(holder) ~= 'string' or holder == id or wrong_type(K.META(holder), 'hash') then
      return grants
    end
    local held = grants_of(holder, sponsorable)
    if #without_account(held, account) == #held then
      return grants
    elseif version_of(K.META(holder), part) >= version_of(meta, part) then
      return without_account(grants, account)
    end
    remove_account(holder, sponsorable, account, held)
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

  -- Collections that are known here, as long as durable has nothing newer of them.
  local own = {}
  for _, collection in ipairs(known_names.collections) do
    if not visitor and not is_unknown(collection) then
      own[collection] = true
    end
  end

  local is_taken, is_newer, noted = {}, {}, {}
  for _, part in ipairs(parts) do
    local name, version, data = unpack(part)
    local key = part_key(id, name)
    local is_set = part_type(name) == 'set'
    if tonumber(version) > deleted and not (is_set and visitor) then
      local unknown = is_unknown(name)
      if unknown and token ~= '' and is_there[name] then
        merge_sets(name, key, data)
      elseif (unknown and token ~= '')
          or (not unknown and tonumber(version) > tonumber(notes['v:' .. name] or '0')) then
        write_key(key, part_type(name), data)
        add_part_fields(noted, name, version, data, part[4])
        index_person(id, version)
        own[name], is_taken[name] = nil, true
        is_newer[name] = tonumber(version) > tonumber(notes['v:' .. name] or '0')
      elseif token ~= '' and is_partial(name, key) then
        complete(sponsorable_of(name), key, unpacked('hash', data))
      end
      if is_set then
        noted[#noted + 1] = 'd:' .. name
        noted[#noted + 1] = '1'
      end
    end
  end
  call_in_chunks('HSET', meta, noted, 1, #noted)
  local joined = false
  for _, sponsorable in ipairs(known_names.sponsorables) do
    local key = K.SPONSORSHIP(sponsorable, id)
    if token ~= '' and is_partial('entitlement:' .. sponsorable, key) then
      complete(sponsorable, key, {}) -- durable has none
    end
    settle_linked_accounts(sponsorable, key)
    index_grants(id, sponsorable, had[sponsorable], grants_of(id, sponsorable))
    if is_newer['entitlement:' .. sponsorable] and exists(K.MEMBERS(sponsorable, id)) then
      mark_organization_changed(sponsorable, id)
    end
    local is_new, entitled, ends = index_entitlement(id, sponsorable)
    joined = joined or is_new
    if ends and not entitled then
      -- It may have ended while local had lost its calendar: durable's index has to learn it.
      redis.call('ZADD', K.ENTITLEMENT_ENDS, ends, sponsorable .. ':' .. id)
    end
  end
  if joined then
    -- As at a login (save_login.lua), which could not judge it, or whose index was lost since.
    for collection in pairs(own) do
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
    if not is_changed[part] and not is_taken[part] and is_unknown(part) then
      if is_there[part] then
        -- Durable has nothing of it, and local has: then local's is all there is.
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
