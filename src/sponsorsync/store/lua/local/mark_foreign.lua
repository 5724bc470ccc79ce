-- On local: checks a set after a notification of a change, and marks a foreign write, one that does
-- not come from our scripts. Those record the size of each set that they write.
--
-- ARGV  1 person id  2 collection  3 the event, or 'lost'
-- Replies  'ours' | 'visitor' | 'loss' | 'removal' | 'unknown' | 'change'
--          | 'lost?' (the set is smaller than recorded although something was added: it was lost
--          before, unless a removal has been notified since; if not, ask again with 'lost')
--- @include commit is_visitor mark_dirty size_of wrong_service_type wrong_type
--- @keys PREFERENCES META

local id, collection, event = ARGV[1], ARGV[2], ARGV[3]
local set, meta = K.PREFERENCES(id, collection), K.META(id)

if is_visitor(id) then
  return 'visitor'
end
if wrong_type(set, 'set') or wrong_type(meta, 'hash') or wrong_service_type() then
  return 'ours' -- cannot be repaired; verify reports it
end
local recorded_size = tonumber(redis.call('HGET', meta, 'n:' .. collection) or '-1')
local recorded = redis.call('HGET', meta, 'p:' .. collection)
local size = size_of(set)
if size == 0 then
  -- Only an SREM or SPOP of the last member is certainly a removal; otherwise the set was lost.
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
  -- Durable was not asked yet, or the set was lost before this addition: it must be merged with
  -- durable's set before it is sent.
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
