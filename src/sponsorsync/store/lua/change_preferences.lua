-- Adds and removes members of one person's collection, all or nothing.
--
-- KEYS  1 the set  2 meta  3 the visitor's hash of the same number  4 dirty  5 outbox
-- ARGV  1 person id  2 collection  3 most members allowed  4 number of members to add (n)
--       5 … 4+n members to add  then members to remove
-- Replies  {'ok', added, removed, size} | {'full', size} | {'visitor'}

local set, meta, visitor, dirty, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, collection, most, adds = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local first_add, last_add, last_remove = 5, 4 + adds, #ARGV

if redis.call('TYPE', visitor).ok == 'hash' then
  return { 'visitor' }
end
local wrong = check_type(set, 'set') or check_type(meta, 'hash') or check_type(dirty, 'set')
  or check_type(outbox, 'stream')
if wrong then
  return wrong
end

-- Members of ARGV[first..last] that are (1) or are not (0) in the set.
local function count(first, last, wanted)
  local found = 0
  for from = first, last, CHUNK do
    local to = math.min(from + CHUNK - 1, last)
    for _, is_member in ipairs(redis.call('SMISMEMBER', set, unpack(ARGV, from, to))) do
      if is_member == wanted then
        found = found + 1
      end
    end
  end
  return found
end

local size = redis.call('SCARD', set)
local new = count(first_add, last_add, 0)
if new > 0 and size + new - count(last_add + 1, last_remove, 1) > most then
  return { 'full', size }
end

local was = presence(meta, collection, set)
local added = call_in_chunks('SADD', set, ARGV, first_add, last_add)
local removed = call_in_chunks('SREM', set, ARGV, last_add + 1, last_remove)
-- A change that changes nothing needs no journey: a retry after a lost answer is one.
if added + removed > 0 or was == 'unknown' then
  note_presence(meta, collection, set)
  raise_version(meta, collection)
  mark_dirty(dirty, outbox, id)
end
return { 'ok', added, removed, redis.call('SCARD', set) }
