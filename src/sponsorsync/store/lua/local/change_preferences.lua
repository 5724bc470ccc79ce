-- On local: adds and removes members of one person's collection, all or nothing.
--
-- ARGV  1 person id  2 collection  3 most members allowed
--       4 what to do if the collection is unknown: 'ask' (take the lease: the collection must be
--         fetched first), 'wait' (durable is down: save the change as pending), 'local_only' (there
--         is no durable: change what local has). 'wait!' (local may be older than durable): save
--         the change as pending, also if the collection is known
--       5 a random token for the lease  6 number of members to add (n)
--       7 … 6+n members to add  then members to remove
-- Replies  {'ok', added, removed, size} | {'full', size} (nothing was changed)
--          | {'visitor'} (an anonymous visitor of the application has the same number)
--          | {'ask', token of the lease's holder} | {'pending'}
--- @include call_in_chunks commit is_visitor known_state check_members mark_dirty presence
--- @include suppress_capture size_of acquire_lease wrong_service_type wrong_type
--- @keys PREFERENCES META PENDING

local id, collection, most, how, token = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local first_add, last_add, last_remove = 7, 6 + tonumber(ARGV[6]), #ARGV
local set, meta = K.PREFERENCES(id, collection), K.META(id)

if is_visitor(id) then
  return { 'visitor' }
end
local wrong = wrong_type(set, 'set') or wrong_type(meta, 'hash') or wrong_service_type()
if wrong then
  return redis.error_reply(wrong)
end

local state = known_state(id, meta, collection, set)
if how == 'wait!' or (state == 'unknown' and how == 'wait') then
  local pending = K.PENDING(id)
  for i = first_add, last_remove do
    redis.call('HSET', pending, collection .. '\n' .. ARGV[i], i <= last_add and '+' or '-')
  end
  mark_dirty(id)
  return { 'pending' }
end
if state == 'unknown' and how == 'ask' then
  return { 'ask', acquire_lease(id, token) }
end

-- Returns how many of ARGV[first..last] are (wanted = 1) or are not (0) in the set.
local function count(first, last, wanted)
  local number = 0
  check_members(set, ARGV, first, last, function(_, is_member)
    if is_member == wanted then
      number = number + 1
    end
  end)
  return number
end

local size = size_of(set)
local new = count(first_add, last_add, 0)
if new > 0 and size + new - count(last_add + 1, last_remove, 1) > most then
  return { 'full', size }
end

local added, removed = 0, 0
suppress_capture(function()
  added = call_in_chunks('SADD', set, ARGV, first_add, last_add)
  removed = call_in_chunks('SREM', set, ARGV, last_add + 1, last_remove)
end)
-- A change without effect, such as a retry, is not pushed to durable, unless the part's presence is
-- not recorded yet.
if added + removed > 0 or presence(meta, collection, set) == 'unknown' then
  commit(id, meta, { collection })
end
return { 'ok', added, removed, size_of(set) }
