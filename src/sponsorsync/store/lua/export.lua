-- Packs people's parts, to be unpacked by apply.lua or absorb.lua on the other side. Only parts
-- whose presence is known are packed. It reads each key once, and asks what is the same for all
-- people in one call for all of them: a snapshot is made of this.
--
-- ARGV  1 'covered' (collections only of people who are covered: what may leave local), 'all', or
--         'only:{collection}' (as 'covered', but of the parts only cover and that collection)
--       2 JSON [sponsorable]  3 … person ids
-- Replies  for each person, in order, {stamp, package, flags}: the stamp stands for all versions;
--          flags hold 'u' (something has to be fetched from durable before all can be sent: some
--          cover is unknown or not indexed, changes wait, or a set was written past the service),
--          'c' (is
--          covered), 'n' (not covered, and durable holds a copy to be narrowed), 'd' (is dirty),
--          'm' (is covered, and it is not noted yet that durable holds a copy),
--          'v' (the number is a visitor's too, so no set is packed), 'p' (only some parts were
--          asked for); or {'', error}. It stops early when it has read much: the caller asks
--          again for the rest.

local MOST_VALUES = 20000 -- some milliseconds

local what, sponsorables = ARGV[1], cjson.decode(ARGV[2])
local only = string.match(what, '^only:(.+)$')

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

-- Returns all of a key as a flat list, which is empty where there is no key; or nil and the sentence
-- to refuse with.
local function read_key(key, kind)
  local reply = redis.pcall(kind == 'hash' and 'HGETALL' or 'SMEMBERS', key)
  if reply.err then
    return nil, wrong_type(key, kind) or reply.err
  end
  return reply
end

local function covers(facts)
  if #facts == 0 then
    return false
  end
  local fields = notes_in(facts)
  return judge_cover(fields.source, fields.valid_until)
end

local function holds_copy(notes)
  for field in pairs(notes) do
    if string.sub(field, 1, 2) == 'd:' then
      return true
    end
  end
  return false
end

-- Returns the reply for a person, and how many values it read.
local function export(id)
  local flat, wrong = read_key(K.META(id), 'hash')
  if not flat then
    return { '', wrong }, 0
  end
  local notes, facts_of, values = notes_in(flat), {}, 0
  local covered, unknown = false, false
  for _, sponsorable in ipairs(sponsorables) do
    local part = 'cover:' .. sponsorable
    local facts
    facts, wrong = read_key(K.SPONSORSHIP(sponsorable, id), 'hash')
    if not facts and notes['v:' .. part] then
      return { '', wrong }, values
    end
    facts = facts or {} -- a foreign key that is no part of theirs: an account may be deleted there
    facts_of[part] = facts
    if covers(facts) then
      covered = true
      -- A join that nobody has judged yet (save_login.lua), or an index that was lost.
      unknown = unknown or (dirty[id]
        and redis.pcall('SISMEMBER', K.SPONSORS(sponsorable), id) == 0)
    end
    unknown = unknown or judge_presence(notes['p:' .. part], #facts > 0) == 'unknown'
  end

  local visitor = some_visitors and is_visitor(id)
  local sets_travel = (covered or what == 'all') and not visitor
  local packed, unnoted_copy = {}, false
  local stamp, parts = stamp_in(notes)
  if notes.x and #parts == 0 then
    unknown = false -- of an account that was deleted there is no cover to know
  end
  for _, part in ipairs(parts) do
    local kind, noted = part_type(part), notes['p:' .. part]
    local is_wanted = not only or part == only or facts_of[part] ~= nil
    if is_wanted and (kind == 'hash' or sets_travel) then
      local data = facts_of[part]
      if not data then
        data, wrong = read_key(part_key(id, part), kind)
        if not data then
          return { '', wrong }, values
        end
      end
      values = values + #data
      unnoted_copy = unnoted_copy or (kind == 'set' and not notes['d:' .. part])
      if judge_presence(noted, #data > 0) ~= 'unknown' then
        packed[#packed + 1] = { part, notes['v:' .. part], data }
        if kind == 'set' and what ~= 'all' and not notes['d:' .. part] then
          -- From here on durable may hold a copy, whether anybody lives to confirm it or not: after
          -- a lapse it has to be narrowed.
          redis.call('HSET', K.META(id), 'd:' .. part, '1')
        end
      elseif #data > 0 then
        -- Written past the service before anybody asked durable: to be united with what is there.
        unknown = true
      end
    elseif not noted and redis.call('EXISTS', part_key(id, part)) == 1 then
      unknown = true
    end
  end
  unknown = unknown or (some_pending and redis.call('EXISTS', K.PENDING(id)) == 1)

  local flags = (dirty[id] and 'd' or '') .. (unknown and 'u' or '') .. (only and 'p' or '')
    .. (visitor and 'v' or '')
  if covered then
    flags = flags .. (unnoted_copy and 'cm' or 'c')
  elseif holds_copy(notes) then
    flags = flags .. 'n'
  end
  return { stamp, cmsgpack.pack({ id, notes.x or '0', packed }), flags }, values
end

local replies, total = {}, 0
for i = 3, #ARGV do
  local reply, values = export(ARGV[i])
  replies[#replies + 1] = reply
  total = total + values
  if total > MOST_VALUES then
    break
  end
end
return replies
