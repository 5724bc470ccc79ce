-- On local: makes each cover that has ended by now an event: the indexes learn it, and the person
-- travels, so that durable learns it too.
--
-- ARGV  1 how many at most
-- Replies  how many ended

local ended = redis.call(
  'ZRANGEBYSCORE', K.COVER_ENDS, '-inf', now_s(), 'LIMIT', 0, tonumber(ARGV[1])
)
for _, member in ipairs(ended) do
  local sponsorable, id = string.match(member, '^(.+):(%d+)$')
  if sponsorable then
    local before = cover_for_audit(id, sponsorable)
    index_cover(id, sponsorable)
    audit_cover(id, sponsorable, before, 'end', '')
    mark_dirty(id)
    if redis.pcall('HGET', K.SPONSORSHIP(sponsorable, id), 'is_one_time') ~= '1' then
      -- It was announced; whether it became true, GitHub tells who looks (reconcile_schedule.py).
      redis.pcall('HSET', K.LOOKS, sponsorable, string.format('%.0f', now_us()))
    end
  end
  redis.call('ZREM', K.COVER_ENDS, member)
end
return #ended
