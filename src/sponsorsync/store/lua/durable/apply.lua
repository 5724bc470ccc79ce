-- On durable: takes packages of people, and refuses, part by part, what is not newer. What concerns
-- the indexes is collected and done in one call for all people of the script: a snapshot is made of
-- this.
--
-- ARGV  1 JSON [sponsorable]  2 … packages of pack.lua, each of another person
-- Replies  {APPLIED of this script, for each package 'ok' | 'newer' (durable holds a newer part) |
-- an
--          error that begins with 'WRONGTYPE'}
--- @include call_in_chunks chunk delete_up_to incoming_part json_document evaluate_entitlement
--- @include evaluate_presence parse_hash now_s part_key part_type sponsorable_of wrong_type
--- @keys SPONSORSHIP META SPONSORS PEOPLE ENTITLEMENT_ENDS APPLIED LAPSED

local sponsorables = cjson.decode(ARGV[1])

-- ------------------------------------------------------------------ indexes

-- Arguments for one command on one key, collected over all people.
local Batch = {}
Batch.__index = Batch

local function batch(key, command, ...)
  return setmetatable({ key = key, command = command, options = { ... }, values = {} }, Batch)
end

function Batch:add(first, second)
  local values = self.values
  values[#values + 1] = first
  if second then
    values[#values + 1] = second
  end
end

function Batch:run()
  local count = #self.options
  for from = 1, #self.values, CHUNK do
    local arguments = { unpack(self.options) }
    for i = from, math.min(from + CHUNK - 1, #self.values) do
      arguments[count + i - from + 1] = self.values[i]
    end
    redis.call(self.command, self.key, unpack(arguments))
  end
end

local applied = redis.call('INCR', K.APPLIED)
local people = batch(K.PEOPLE, 'ZADD')
local ends_set, ends_unset = batch(K.ENTITLEMENT_ENDS, 'ZADD'), batch(K.ENTITLEMENT_ENDS, 'ZREM')
local lapses_set, lapses_unset = batch(K.LAPSED, 'ZADD', 'NX'), batch(K.LAPSED, 'ZREM')
local joined, left, number_of = {}, {}, { [false] = false }
for i, sponsorable in ipairs(sponsorables) do
  number_of[sponsorable] = i
  joined[i] = batch(K.SPONSORS(sponsorable), 'SADD')
  left[i] = batch(K.SPONSORS(sponsorable), 'SREM')
end

-- What include/index_entitlement.lua does for one person, and who is not entitled and has
-- preferences here has them for as long as the retention lasts.
local function index(id, notes, facts)
  local last_end, is_anyones = 0, false
  for i, sponsorable in ipairs(sponsorables) do
    local entitled, ends = evaluate_entitlement(unpack(facts[i].about))
    local member = sponsorable .. ':' .. id
    if entitled and ends then
      ends_set:add(ends, member)
    else
      ends_unset:add(member)
    end
    if entitled then
      is_anyones = true
      joined[i]:add(id)
    else
      left[i]:add(id)
    end
    last_end = math.max(last_end, ends or 0)
  end
  local holds = false
  if not is_anyones then
    for field in pairs(notes) do
      local part = string.match(field, '^v:(.+)$')
      if part and part_type(part) == 'set' and redis.call('EXISTS', part_key(id, part)) == 1 then
        holds = true
      end
    end
  end
  if holds then
    lapses_set:add(last_end > 0 and last_end or now_s(), id)
  else
    lapses_unset:add(id)
  end
end

local function wrong_index_type()
  local wrong = wrong_type(K.PEOPLE, 'zset') or wrong_type(K.ENTITLEMENT_ENDS, 'zset')
    or wrong_type(K.LAPSED, 'zset')
  for _, sponsorable in ipairs(sponsorables) do
    wrong = wrong or wrong_type(K.SPONSORS(sponsorable), 'set')
  end
  return wrong
end

-- ------------------------------------------------------------------ parts

-- Returns which of the parts' keys exist, or nil and the sentence to refuse with.
local function find_existing(id, parts)
  local exists = {}
  for i, part in ipairs(parts) do
    local found = redis.call('TYPE', part_key(id, part[1])).ok
    if found ~= 'none' and found ~= part_type(part[1]) then
      return nil, wrong_type(part_key(id, part[1]), part_type(part[1]))
    end
    exists[i] = found ~= 'none'
  end
  return exists
end

-- Returns what is held of the entitlement by each sponsorable, or nil and the sentence to refuse
-- with.
local function load_facts(id)
  local facts = {}
  for i, sponsorable in ipairs(sponsorables) do
    local key = K.SPONSORSHIP(sponsorable, id)
    local reply = redis.pcall('HMGET', key, unpack(DECISIVE))
    if reply.err then
      return nil, wrong_type(key, 'hash') or reply.err
    end
    facts[i] = { part = 'entitlement:' .. sponsorable, about = reply }
  end
  return facts
end

-- What a package tells of the entitlement by each sponsorable replaces what is held.
local function take_facts(facts, part)
  for _, entitlement in ipairs(facts) do
    if entitlement.part == part[1] then
      local data, about = part[3], part[4]
      if type(data) == 'string' then
        entitlement.about = about
      else
        local now = parse_hash(data)
        entitlement.about = { now.source or false, now.valid_until or false, now.also_until or false }
      end
    end
  end
end

-- Which people's meta there is. Most scripts of a snapshot into an empty durable have nobody's.
local function find_held(people)
  local metas, held = {}, {}
  for i, person in ipairs(people) do
    metas[i] = K.META(person[1])
  end
  if #metas == 0 or redis.call('EXISTS', unpack(metas)) == 0 then
    return held
  end
  for i, person in ipairs(people) do
    held[person[1]] = redis.call('EXISTS', metas[i]) == 1
  end
  return held
end

-- Puts dumps where nothing is; returns whether that could be done. If not, nothing was.
local function restore_new(id, parts)
  for i, part in ipairs(parts) do
    local reply = type(part[3]) == 'string'
      and redis.pcall('RESTORE', part_key(id, part[1]), 0, part[3])
    if not reply or reply.err then
      for k = 1, i - 1 do
        redis.call('DEL', part_key(id, parts[k][1]))
      end
      return false
    end
  end
  return true
end

-- Of a person of whom nothing is held, and whose dumps have just been restored: nothing has to be
-- read or compared, and no index knows them.
local function save_new_parts(id, parts)
  local fields, last_end, is_anyones, holds_set = {}, 0, false, false
  for _, part in ipairs(parts) do
    local name, version, data, about = part[1], part[2], part[3], part[4]
    add_part_fields(fields, name, version, data, about)
    holds_set = holds_set or part_type(name) == 'set'
    local number = number_of[sponsorable_of(name)]
    if number then
      local entitled, ends = evaluate_entitlement(unpack(about))
      if entitled then
        is_anyones = true
        joined[number]:add(id)
        if ends then
          ends_set:add(ends, sponsorables[number] .. ':' .. id)
        end
      end
      last_end = math.max(last_end, ends or 0)
    end
  end
  redis.call('HSET', K.META(id), unpack(fields))
  derive_document(id)
  people:add(applied, id)
  if holds_set and not is_anyones then
    lapses_set:add(last_end > 0 and last_end or now_s(), id)
  end
end

local function apply(person, is_held)
  local id, deleted, parts = person[1], person[2], person[3]
  if not is_held and deleted == '0' and #parts > 0 and restore_new(id, parts) then
    save_new_parts(id, parts)
    return 'ok'
  end
  local meta = K.META(id)
  local flat = redis.pcall('HGETALL', meta)
  if flat.err then
    return wrong_type(meta, 'hash') or flat.err
  end
  local exists, wrong = find_existing(id, parts)
  if not exists then
    return wrong
  end
  local facts
  facts, wrong = load_facts(id)
  if not facts then
    return wrong
  end
  local notes, hashes_changed = parse_hash(flat), false
  if tonumber(deleted) > tonumber(notes.x or '0') then
    delete_up_to(id, meta, deleted)
    notes, exists = parse_hash(redis.call('HGETALL', meta)), find_existing(id, parts)
    facts = load_facts(id)
    hashes_changed = true
  end
  deleted = tonumber(notes.x or '0')
  local answer, fields = 'ok', {}
  for i, part in ipairs(parts) do
    local name, version, data = unpack(part)
    local number, held = tonumber(version), tonumber(notes['v:' .. name] or '0')
    local lost = evaluate_presence(notes['p:' .. name], exists[i]) == 'unknown'
    if number > deleted and (number > held or (number == held and lost)) then
      write_key(part_key(id, name), part_type(name), data)
      notes['v:' .. name] = version
      add_part_fields(fields, name, version, data, part[4])
      take_facts(facts, part)
      hashes_changed = hashes_changed or part_type(name) == 'hash'
    elseif number < held or number <= deleted then
      -- Also a deletion is newer, of which local does not know any more.
      answer = 'newer'
    end
  end
  call_in_chunks('HSET', meta, fields, 1, #fields)
  derive_document(id, not hashes_changed)
  people:add(applied, id)
  index(id, notes, facts)
  return answer
end

local persons = {}
for i = 2, #ARGV do
  persons[i - 1] = cmsgpack.unpack(ARGV[i])
end
local answers, wrong = {}, wrong_index_type()
local held = wrong and {} or find_held(persons)
for i, person in ipairs(persons) do
  answers[i] = wrong or apply(person, held[person[1]])
end
if not wrong then
  for _, each in ipairs({ people, ends_set, ends_unset, lapses_set, lapses_unset }) do
    each:run()
  end
  for i in ipairs(sponsorables) do
    joined[i]:run()
    left[i]:run()
  end
end
return { applied, answers }
