-- On local: handles the notification that a set has changed. A change is foreign, that is, made by
-- the application, if the set's size is not the one that our scripts recorded when they last wrote
-- it. A foreign change gets a version and marks the person dirty.
--
-- ARGV  1 person id  2 collection  3 the event, or 'lost'
-- Replies  'ours' (not foreign, or it cannot be handled)
--          | 'visitor' (the set belongs to an anonymous visitor of the application)
--          | 'change', 'removal' (foreign; removal: of the last member)
--          | 'loss' (the set is gone, and not by a removal)
--          | 'unknown' (foreign, and the set must be merged with durable's first)
--          | 'lost?' (a member was added, and yet the set is smaller than recorded: the old set was
--          lost, unless a later notification reports a removal. If none does, the caller runs this
--          script again with 'lost')
--- @include commit is_visitor mark_dirty size_of wrong_service_type wrong_type
--- @keys PREFERENCES META

local id, collection, event = ARGV[1], ARGV[2], ARGV[3]
local set, meta = K.PREFERENCES(id, collection), K.META(id)

if is_visitor(id) then
  return 'visitor'
end
if wrong_type(set, 'set') or wrong_type(meta, 'hash') or wrong_service_type() then
  return 'ours' -- a wrong-type key cannot be handled here; `sponsorsync verify` reports it
end
local recorded_size = tonumber(redis.call('HGET', meta, 'n:' .. collection) or '-1')
local recorded = redis.call('HGET', meta, 'p:' .. collection)
local size = size_of(set)
if size == 0 then
  -- Only an SREM or SPOP of the last member is certainly a removal; anything else is a loss.
  if (event == 'srem' or event == 'spop') and recorded == '1' and recorded_size == 1 then
    commit(id, meta, { collection })
    return 'removal'
  end
  return recorded == '0' and 'ours' or 'loss'
end
if recorded and event == 'sadd' and size < recorded_size then
  return 'lost?'
end
if not recorded or (event == 'lost' and size < recorded_size) then
  -- The set has not been fetched from durable yet, or it was lost before this addition: it must be
  -- merged with durable's set before it is pushed.
  redis.call('HDEL', meta, 'p:' .. collection)
  redis.call('HSETNX', meta, 'v:' .. collection, '0')
  mark_dirty(id)
  return 'unknown'
end
if size == recorded_size then
  return 'ours'
end
commit(id, meta, { collection })
return 'change'
