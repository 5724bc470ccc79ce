-- On local: marks people for another push after durable has come back older, namely those with a
-- confirmation that is later than durable's present state.
--
-- ARGV  1 durable's APPLIED now  2 how many at most
-- Replies  how many were marked
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
  redis.call('HSET', K.INCARNATIONS, 'checked', ARGV[1]) -- durable uses later numbers again
end
return #people
