-- On durable: applies person records; skips each part that is not newer than durable's part. A
-- snapshot runs this script for all people, so changes of the indexes are collected, and each index
-- is changed by one command for all people of the call.
--
-- ARGV  1 JSON [sponsorable]  2 … person records of pack.lua, each of another person
-- Replies  {the new value of the counter APPLIED, list with one answer for each record: 'ok' |
--          'newer' (durable has a newer part) | an error that begins with 'WRONGTYPE'}
--- @include call_in_chunks chunk incoming_parts json_document evaluate_entitlement
--- @include evaluate_presence parse_hash now_s part_key part_type sponsorable_of wrong_type
--- @keys SPONSORSHIP META SPONSORS PEOPLE ENTITLEMENT_ENDS APPLIED LAPSED

local sponsorables = cjson.decode(ARGV[1])

-- ------------------------------------------------------------------ indexes

-- Collects the arguments of one command on one key, for all people of the script.
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

-- Adds one person's changes of the indexes to the batches, as index_entitlement.lua does directly.
-- If the person has preferences and is not entitled, their retention begins: LAPSED gets them.
local function index(id, fields, facts)
  local last_end, is_entitled = 0, false
  for i, sponsorable in ipairs(sponsorables) do
    local entitled, ends = evaluate_entitlement(unpack(facts[i].summary))
    local member = sponsorable .. ':' .. id
    if entitled and ends then
      ends_set:add(ends, member)
    else
      ends_unset:add(member)
    end
    if entitled then
      is_entitled = true
      joined[i]:add(id)
    else
      left[i]:add(id)
    end
    last_end = math.max(last_end, ends or 0)
  end
  local has_preferences = false
  if not is_entitled then
    for field in pairs(fields) do
      local part = string.match(field, '^v:(.+)$')
      if part and part_type(part) == 'set' and redis.call('EXISTS', part_key(id, part)) == 1 then
        has_preferences = true
      end
    end
  end
  if has_preferences then
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

-- Returns which of the parts' keys exist, or nil and an error sentence.
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

-- Returns the fields DECISIVE of the entitlement by each sponsorable, or nil and an error sentence.
local function load_facts(id)
  local facts = {}
  for i, sponsorable in ipairs(sponsorables) do
    local key = K.SPONSORSHIP(sponsorable, id)
    local reply = redis.pcall('HMGET', key, unpack(DECISIVE))
    if reply.err then
      return nil, wrong_type(key, 'hash') or reply.err
    end
    facts[i] = { part = 'entitlement:' .. sponsorable, summary = reply }
  end
  return facts
end

-- Updates the result of load_facts() with a received part, if that is an entitlement.
local function update_facts(facts, part)
  for _, entry in ipairs(facts) do
    if entry.part == part[1] then
      local data, summary = part[3], part[4]
      if type(data) == 'string' then
        entry.summary = summary
      else
        local new = parse_hash(data)
        entry.summary = { new.source or false, new.valid_until or false, new.also_until or false }
      end
    end
  end
end

-- Returns which people have a meta hash. For a snapshot into an empty durable, this takes one
-- command for all people.
local function find_stored(people)
  local metas, is_stored = {}, {}
  for i, person in ipairs(people) do
    metas[i] = K.META(person[1])
  end
  if #metas == 0 or redis.call('EXISTS', unpack(metas)) == 0 then
    return is_stored
  end
  for i, person in ipairs(people) do
    is_stored[person[1]] = redis.call('EXISTS', metas[i]) == 1
  end
  return is_stored
end

-- Restores the dumps of all parts, whose keys must not exist yet. If one fails, deletes those that
-- were restored, and returns false.
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

-- Writes meta and the indexes for a new person, whose dumps have just been restored. It reads and
-- compares nothing on durable, since there is nothing.
local function save_new_parts(id, parts)
  local fields, last_end, is_entitled, has_preferences = {}, 0, false, false
  for _, part in ipairs(parts) do
    local name, version, data, summary = part[1], part[2], part[3], part[4]
    add_part_fields(fields, name, version, data, summary)
    has_preferences = has_preferences or part_type(name) == 'set'
    local number = number_of[sponsorable_of(name)]
    if number then
      local entitled, ends = evaluate_entitlement(unpack(summary))
      if entitled then
        is_entitled = true
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
  if has_preferences and not is_entitled then
    lapses_set:add(last_end > 0 and last_end or now_s(), id)
  end
end

local function apply(person, is_stored)
  local id, deleted, parts = person[1], person[2], person[3]
  if not is_stored and deleted == '0' and #parts > 0 and restore_new(id, parts) then
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
  local fields, hashes_changed = parse_hash(flat), false
  if tonumber(deleted) > tonumber(fields.x or '0') then
    delete_up_to(id, meta, deleted)
    fields, exists = parse_hash(redis.call('HGETALL', meta)), find_existing(id, parts)
    facts = load_facts(id)
    hashes_changed = true
  end
  deleted = tonumber(fields.x or '0')
  local answer, new_fields = 'ok', {}
  for i, part in ipairs(parts) do
    local name, version, data = unpack(part)
    local number, stored = tonumber(version), tonumber(fields['v:' .. name] or '0')
    local lost = evaluate_presence(fields['p:' .. name], exists[i]) == 'unknown'
    if number > deleted and (number > stored or (number == stored and lost)) then
      write_key(part_key(id, name), part_type(name), data)
      fields['v:' .. name] = version
      add_part_fields(new_fields, name, version, data, part[4])
      update_facts(facts, part)
      hashes_changed = hashes_changed or part_type(name) == 'hash'
    elseif number < stored or number <= deleted then
      -- A deletion of the account that local has lost makes durable newer, too.
      answer = 'newer'
    end
  end
  call_in_chunks('HSET', meta, new_fields, 1, #new_fields)
  derive_document(id, not hashes_changed)
  people:add(applied, id)
  index(id, fields, facts)
  return answer
end

local persons = {}
for i = 2, #ARGV do
  persons[i - 1] = cmsgpack.unpack(ARGV[i])
end
local answers, wrong = {}, wrong_index_type()
local is_stored = wrong and {} or find_stored(persons)
for i, person in ipairs(persons) do
  answers[i] = wrong or apply(person, is_stored[person[1]])
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
