-- Packs people's parts, to be unpacked by apply.lua or merge.lua on the other side. Only parts
-- whose presence is known are packed. It reads each key once, and asks what is the same for all
-- people in one call for all of them: a snapshot is made of this.
--
-- ARGV  1 'entitled' (collections only of people who are entitled: what may leave local), 'all', or
--         'only:{collection}' (as 'entitled', but of the parts only entitlement and that collection);
--         '+dumps' behind it: as dumps, which the other server can read
--       2 JSON [sponsorable]  3 … person ids
-- Replies  for each person, in order, {stamp, package, flags}: the stamp stands for all versions
--          ('-' of who has nothing to be confirmed);
--          flags hold 'u' (something has to be fetched from durable before all can be sent: some
--          entitlement is unknown, partial or not indexed, changes wait, or a set was written past the
--          service),
--          'c' (is entitled), 'n' (not entitled, and durable holds a copy to be narrowed),
--          'd' (is dirty), 'v' (the number is a visitor's too, so no set is packed), 'p' (only some parts were
--          asked for); or {'', error}. It stops early when it has read much: the caller asks
--          again for the rest.
--- @include chunk exists is_visitor evaluate_entitlement evaluate_presence part_key part_type parse_meta
--- @include sponsorable_of version_vector_of wrong_type
--- @keys SPONSORSHIP META SPONSORS VISITOR DIRTY PENDING

local MOST_VALUES = 20000 -- some milliseconds
local MEMBERS_A_VALUE = 10 -- of a dump: that reads more of them in the same time

local what, as_dumps = string.match(ARGV[1], '^([^+]+)(%+?)')
as_dumps = as_dumps ~= ''
local sponsorables = cjson.decode(ARGV[2])
local only = string.match(what, '^only:(.+)$')
local entitlement_parts = {}
for i, sponsorable in ipairs(sponsorables) do
  entitlement_parts[i] = 'entitlement:' .. sponsorable
end

-- Whether any of the keys that `name` makes of the ids exists.
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

-- ------------------------------------------------------------------ contents

-- A dump begins with a byte for the type and its encoding: asked once for each, what type it is.
local type_of_byte = {}
local function type_in(dump, key)
  local byte = string.byte(dump)
  type_of_byte[byte] = type_of_byte[byte] or redis.call('TYPE', key).ok
  return type_of_byte[byte]
end

-- Returns all of a key, as a flat list or a dump, which is empty where there is no key; how many
-- values were read; and the size of a dumped set. Or nil and the sentence to refuse with.
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

-- Returns the reply for a person, and how many values it read.
local function pack(id)
  local meta = K.META(id)
  local flat = redis.pcall('HGETALL', meta)
  if flat.err then
    return { '', wrong_type(meta, 'hash') or flat.err }, 0
  end
  local notes, parts, holds_copy = parse_meta(flat)
  local is_dirty, about_of = dirty[id], {}
  local entitled, unknown = false, false
  -- Of who never signed in only entitles are known that GitHub told of by itself; others' never may
  -- be.
  local is_person = #parts == 0
  for _, part in ipairs(parts) do
    is_person = is_person or not sponsorable_of(part)
  end
  for i, part in ipairs(entitlement_parts) do
    local key = K.SPONSORSHIP(sponsorables[i], id)
    local about = redis.pcall('HMGET', key, unpack(DECISIVE))
    -- A wrong-type key that is no part of theirs is left alone: an account may have been deleted
    -- there.
    if about.err and notes['v:' .. part] then
      return { '', wrong_type(key, 'hash') or about.err }, 0
    end
    about_of[part] = about
    if evaluate_entitlement(unpack(about)) then
      entitled = true
      -- A join that nobody has judged yet (save_login.lua), or an index that was lost.
      unknown = unknown or (is_dirty
        and redis.pcall('SISMEMBER', K.SPONSORS(sponsorables[i]), id) == 0)
    end
    unknown = unknown or about[4] or ((is_person or notes['v:' .. part])
      and evaluate_presence(notes['p:' .. part], about[1]) == 'unknown')
  end

  local visitor = some_visitors and is_visitor(id)
  local sets_travel = (entitled or what == 'all') and not visitor
  local packed, values = {}, 0
  if notes.x and #parts == 0 then
    unknown = false -- of an account that was deleted there is no entitlement to know
  end
  for _, part in ipairs(parts) do
    local kind, noted = part_type(part), notes['p:' .. part]
    local is_wanted = not only or part == only or about_of[part] ~= nil
    local is_partial = about_of[part] and about_of[part][4]
    if is_partial then
      unknown = true -- facts to which durable's grants have to be added first
    elseif is_wanted and (kind == 'hash' or sets_travel) then
      local key = part_key(id, part)
      local data, read, size = {}, 0, nil
      -- What is not there is not read: that would be a miss for whoever listens to them.
      if kind == 'hash' or noted == '1' or exists(key) then
        data, read, size = read_key(key, kind)
      end
      if not data then
        return { '', read }, values
      end
      values = values + read
      if evaluate_presence(noted, #data > 0) ~= 'unknown' then
        packed[#packed + 1] = { part, notes['v:' .. part], data, size or about_of[part] }
        if kind == 'set' and what ~= 'all' and not notes['d:' .. part] then
          -- From here on durable may hold a copy, whether anybody lives to confirm it or not: after
          -- a lapse it has to be narrowed.
          redis.call('HSET', meta, 'd:' .. part, '1')
        end
      elseif #data > 0 then
        -- Written past the service before anybody asked durable: to be united with what is there.
        unknown = true
      end
    elseif not noted and exists(part_key(id, part)) then
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
  -- Only what has to be confirmed has to be told from what comes after it.
  local version_vector = is_dirty and version_vector_of(notes, parts) or '-'
  return { version_vector, cmsgpack.pack({ id, notes.x or '0', packed }), flags }, values
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
