-- On local: handles own sponsorships and grants that have ended: updates the indexes, writes the
-- audit trail, and marks the person dirty, so that durable updates its indexes, too. Another grant
-- may still entitle the person.
--
-- ARGV  1 the most ends to handle
-- Replies  how many ends were handled
--- @include audit index_entitlement mark_dirty now_s now_us
--- @keys SPONSORSHIP ENTITLEMENT_ENDS RECONCILE_REQUESTS

-- Returns whether the person's monthly sponsorship has reached an end that GitHub had announced.
-- The sponsor may have renewed it, so a reconcile is requested then (schedule.py).
local function has_announced_end(id, sponsorable)
  local key = K.SPONSORSHIP(sponsorable, id)
  local facts = redis.pcall('HMGET', key, 'source', 'is_one_time', 'valid_until')
  return not facts.err and facts[1] and facts[1] ~= 'none' and facts[2] ~= '1'
    and tonumber(facts[3] or '0') <= now_s()
end

local ended = redis.call(
  'ZRANGEBYSCORE', K.ENTITLEMENT_ENDS, '-inf', now_s(), 'LIMIT', 0, tonumber(ARGV[1])
)
for _, member in ipairs(ended) do
  redis.call('ZREM', K.ENTITLEMENT_ENDS, member)
  local sponsorable, id = string.match(member, '^(.+):(%d+)$')
  if sponsorable then
    local before = entitlement_for_audit(id, sponsorable)
    index_entitlement(id, sponsorable)
    audit_entitlement(id, sponsorable, before, 'end', '', true)
    mark_dirty(id)
    if has_announced_end(id, sponsorable) then
      redis.pcall('HSET', K.RECONCILE_REQUESTS, sponsorable, string.format('%.0f', now_us()))
    end
  end
end
return #ended
