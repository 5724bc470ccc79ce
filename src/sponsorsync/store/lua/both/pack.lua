-- Packs people's parts into person records, which apply.lua or merge.lua unpacks on the other
-- server. Packs only parts whose presence is known. A snapshot runs this script for all people, so
-- it reads each key once, and uses one command for all people where possible.
--
-- ARGV  1 'entitled' (leaves out the collections of people who are not entitled, which must not
--         leave local), 'all' (leaves out nothing), or 'only:{collection}' (as 'entitled', but with
--         no other parts than the entitlements and this collection);
--         followed by '+dumps' if the other server can read this server's DUMPs
--       2 JSON [sponsorable]  3 … person ids
-- Replies  for each person, in order, {version vector, person record, flags}; or {'', error}. Stops
--          early after much data: the caller asks again for the rest.
--          Version vector: see version_vector_of.lua; '-' if the person is not dirty.
--          Flags: 'u' (data must be fetched from durable first: an entitlement is unknown, or
--          partial, which means saved while durable could not be asked, or missing in SPONSORS;
--          or changes wait for durable, or the application wrote to an unknown set),
--          'c' (entitled), 'n' (not entitled, and durable may hold copies of collections that
--          must be pruned), 'd' (dirty), 'v' (an anonymous visitor of the application has the same
--          number, so no set is packed), 'p' ('only:' left out some parts)
--- @include chunk exists is_visitor evaluate_entitlement evaluate_presence part_key part_type
--- @include parse_meta sponsorable_of version_vector_of wrong_type
--- @keys SPONSORSHIP META SPONSORS VISITOR DIRTY PENDING

local MOST_VALUES = 20000 -- reading them takes some milliseconds
local MEMBERS_A_VALUE = 10 -- members of a dumped set that take as long as one value read

local scope, as_dumps = string.match(ARGV[1], '^([^+]+)(%+?)')
as_dumps = as_dumps ~= ''
local sponsorables = cjson.decode(ARGV[2])
local only = string.match(scope, '^only:(.+)$')
local entitlement_parts = {}
for i, sponsorable in ipairs(sponsorables) do
  entitlement_parts[i] = 'entitlement:' .. sponsorable
end

-- Returns whether name(id) exists for any of the ids.
local function any_exists(name)
  local keys, found = {}, 0
  for i = 3, #ARGV do
    keys[#keys + 1] = name(ARGV[i])
  end
  for from = 1, #keys, CHUNK do
    local to = math.min(from + CHUNK - 1, #keys)
    found = found + redis.call('EXISTS', unpack(keys, from, to))
  end
  return found > 0
end

local some_visitors, some_pending = any_exists(K.VISITOR), any_exists(K.PENDING)
local dirty = {}
for from = 3, #ARGV, CHUNK do
  local to = math.min(from + CHUNK - 1, #ARGV)
  for i, is_member in ipairs(redis.call('SMISMEMBER', K.DIRTY, unpack(ARGV, from, to))) do
    dirty[ARGV[from + i - 1]] = is_member == 1
  end
end

-- The first byte of a dump is the key's type and encoding. TYPE is called once for each such byte,
-- not for each key.
local type_of_byte = {}
local function type_in(dump, key)
  local byte = string.byte(dump)
  type_of_byte[byte] = type_of_byte[byte] or redis.call('TYPE', key).ok
  return type_of_byte[byte]
end

-- Returns the contents of a key as a flat list (empty for a missing key) or a dump, the number of
-- values read, and the size of a dumped set; or nil and an error sentence.
local function read_key(key, kind)
  if as_dumps then
    local dump = redis.call('DUMP', key)
    if not dump then
      return {}, 0
    elseif type_in(dump, key) ~= kind then
      return nil, wrong_type(key, kind)
    elseif kind == 'hash' then
      return dump, 1
    end
    local size = redis.call('SCARD', key)
    return dump, 1 + math.floor(size / MEMBERS_A_VALUE), size
  end
  local reply = redis.pcall(kind == 'hash' and 'HGETALL' or 'SMEMBERS', key)
  if reply.err then
    return nil, wrong_type(key, kind) or reply.err
  end
  return reply, #reply
end

-- Returns the reply for a person, and how many values were read for it.
local function pack(id)
  local meta = K.META(id)
  local flat = redis.pcall('HGETALL', meta)
  if flat.err then
    return { '', wrong_type(meta, 'hash') or flat.err }, 0
  end
  local fields, parts, holds_copy = parse_meta(flat)
  local is_dirty, decisive_of = dirty[id], {}
  local entitled, unknown = false, false
  -- A person who never signed in has at most entitlements that GitHub reported. Their entitlements
  -- by other sponsorables are unknown, but need not be fetched from durable.
  local is_person = #parts == 0
  for _, part in ipairs(parts) do
    is_person = is_person or not sponsorable_of(part)
  end
  for i, part in ipairs(entitlement_parts) do
    local key = K.SPONSORSHIP(sponsorables[i], id)
    local decisive = redis.pcall('HMGET', key, unpack(DECISIVE))
    -- A wrong-type key is an error only if the person's metadata has this part. Without it the key
    -- is not theirs: the account may have been deleted.
    if decisive.err and fields['v:' .. part] then
      return { '', wrong_type(key, 'hash') or decisive.err }, 0
    end
    decisive_of[part] = decisive
    if evaluate_entitlement(unpack(decisive)) then
      entitled = true
      -- The person is entitled but not in the index: either save_facts.lua left them out, so that
      -- their sets are compared with durable's first, or the index was lost.
      unknown = unknown or (is_dirty
        and redis.pcall('SISMEMBER', K.SPONSORS(sponsorables[i]), id) == 0)
    end
    unknown = unknown or decisive[4] or ((is_person or fields['v:' .. part])
      and evaluate_presence(fields['p:' .. part], decisive[1]) == 'unknown')
  end

  local visitor = some_visitors and is_visitor(id)
  local sets_travel = (entitled or scope == 'all') and not visitor
  local packed, values = {}, 0
  if fields.x and #parts == 0 then
    unknown = false -- a deleted account has no entitlement
  end
  for _, part in ipairs(parts) do
    local kind, recorded = part_type(part), fields['p:' .. part]
    local is_wanted = not only or part == only or decisive_of[part] ~= nil
    local is_partial = decisive_of[part] and decisive_of[part][4]
    if is_partial then
      unknown = true -- durable's grants must be added to these facts first
    elseif is_wanted and (kind == 'hash' or sets_travel) then
      local key = part_key(id, part)
      local data, read, size = {}, 0, nil
      -- Does not read a missing key: that would notify the listeners of key misses.
      if kind == 'hash' or recorded == '1' or exists(key) then
        data, read, size = read_key(key, kind)
      end
      if not data then
        return { '', read }, values
      end
      values = values + read
      if evaluate_presence(recorded, #data > 0) ~= 'unknown' then
        packed[#packed + 1] = { part, fields['v:' .. part], data, size or decisive_of[part] }
        if kind == 'set' and scope ~= 'all' and not fields['d:' .. part] then
          -- From now on durable may hold a copy, even if it never confirms. The copy is pruned
          -- once the person is not entitled any more.
          redis.call('HSET', meta, 'd:' .. part, '1')
        end
      elseif #data > 0 then
        -- The application wrote to a set that had not been fetched from durable: the two must be
        -- merged first.
        unknown = true
      end
    elseif not recorded and exists(part_key(id, part)) then
      unknown = true
    end
  end
  unknown = unknown or (some_pending and redis.call('EXISTS', K.PENDING(id)) == 1)

  local flags = (is_dirty and 'd' or '') .. (unknown and 'u' or '') .. (only and 'p' or '')
    .. (visitor and 'v' or '')
  if entitled then
    flags = flags .. 'c'
  elseif holds_copy then
    flags = flags .. 'n'
  end
  -- The version vector is for confirm.lua, which handles dirty people only.
  local version_vector = is_dirty and version_vector_of(fields, parts) or '-'
  return { version_vector, cmsgpack.pack({ id, fields.x or '0', packed }), flags }, values
end

local replies, total = {}, 0
for i = 3, #ARGV do
  local reply, values = pack(ARGV[i])
  replies[#replies + 1] = reply
  total = total + values
  if total > MOST_VALUES then
    break
  end
end
return replies
