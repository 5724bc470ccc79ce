-- On local: reads one person's collection, or checks which of many ids it contains.
--
-- ARGV  1 person id  2 collection  3 a random token for the lease ('': there is no durable)
--       4 'list' or 'filter'  5 … the ids to filter
-- Replies  {'unknown' | 'empty' | 'there', the members ('list') or a string with '1' for each id in
--          the collection and '0' for each other ('filter')}
--          | {'ask', token of the lease's holder} (the collection must be fetched first)
--          | {'visitor'} (an anonymous visitor of the application has the same number)
--- @include exists is_visitor known_state check_members acquire_lease wrong_type
--- @keys PREFERENCES META

local function members_of(set)
  return exists(set) and redis.call('SMEMBERS', set) or {}
end

local id, collection, token = ARGV[1], ARGV[2], ARGV[3]
local set, meta = K.PREFERENCES(id, collection), K.META(id)

if is_visitor(id) then
  return { 'visitor' }
end
local wrong = wrong_type(set, 'set') or wrong_type(meta, 'hash')
if wrong then
  return redis.error_reply(wrong)
end

local state = known_state(id, meta, collection, set)
if state == 'unknown' and token ~= '' then
  return { 'ask', acquire_lease(id, token) }
end
if ARGV[4] == 'list' then
  return { state, members_of(set) }
end
local bits = {}
check_members(set, ARGV, 5, #ARGV, function(_, is_member)
  bits[#bits + 1] = is_member
end)
return { state, table.concat(bits) }
