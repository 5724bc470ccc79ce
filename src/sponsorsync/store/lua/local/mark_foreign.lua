-- On local: looks at a set after a notification said that it changed, and marks what somebody wrote
-- past the service. Our own scripts note the size of a set, so their changes are told by it.
--
-- ARGV  1 person id  2 collection  3 the event, or 'lost'
-- Replies  'ours' | 'visitor' | 'loss' | 'removal' | 'unknown' | 'change'
--          | 'lost?' (it is smaller than it was after something was added: lost before that, unless
--          a removal has been notified since; then ask again with 'lost')
--- @include commit is_visitor mark_dirty size_of wrong_service_type wrong_type
--- @keys PREFERENCES META

local id, collection, event = ARGV[1], ARGV[2], ARGV[3]
local set, meta = K.PREFERENCES(id, collection), K.META(id)

if is_visitor(id) then
  return 'visitor'
end
if wrong_type(set, 'set') or wrong_type(meta, 'hash') or wrong_service_type() then
  return 'ours' -- nobody's to repair; verify names it
end
local noted = tonumber(redis.call('HGET', meta, 'n:' .. collection) or '-1')
local known = redis.call('HGET', meta, 'p:' .. collection)
local size = size_of(set)
if size == 0 then
  -- Only the last member's removal is one for certain; what went otherwise was lost.
  if (event == 'srem' or event == 'spop') and known == '1' and noted == 1 then
    commit(id, meta, { collection })
    return 'removal'
  end
  return known == '0' and 'ours' or 'loss'
end
if known and event == 'sadd' and size < noted then
  return 'lost?'
end
if not known or (event == 'lost' and size < noted) then
  -- Nobody has asked durable yet, or the set had been lost before this member came: it is sent only
  -- once it is united with what durable has.
  redis.call('HDEL', meta, 'p:' .. collection)
  redis.call('HSETNX', meta, 'v:' .. collection, '0')
  mark_dirty(id)
  return 'unknown'
end
if size == noted then
  return 'ours'
end
commit(id, meta, { collection })
return 'change'
