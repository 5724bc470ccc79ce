-- On local, after durable has come back older: marks people dirty whose last confirmation is later
-- than durable's present state, so that they are pushed again.
--
-- ARGV  1 durable's present APPLIED  2 the most people to mark
-- Replies  how many people were marked
--- @include mark_dirty
--- @keys CONFIRMED INCARNATIONS

local people = redis.call(
  'ZRANGEBYSCORE', K.CONFIRMED, '(' .. ARGV[1], '+inf', 'LIMIT', 0, tonumber(ARGV[2])
)
for _, id in ipairs(people) do
  mark_dirty(id)
  redis.call('ZREM', K.CONFIRMED, id)
end
if tonumber(redis.call('HGET', K.INCARNATIONS, 'checked') or '0') > tonumber(ARGV[1]) then
  redis.call('HSET', K.INCARNATIONS, 'checked', ARGV[1]) -- durable will use later values again
end
return #people
