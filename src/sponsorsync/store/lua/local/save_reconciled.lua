-- On local: records a full reconcile of a sponsorable; removes the record of an earlier failed
-- reconcile, and the request that was stored when this one began. A later request stays.
--
-- ARGV  1 sponsorable  2 the second in which the reconcile began
--       3 token of the latest request at that time ('': none)
-- Replies  nothing, or an error that begins with 'WRONGTYPE'
--- @include wrong_type
--- @keys RECONCILED RECONCILE_FAILED RECONCILE_REQUESTS

local sponsorable, began_s, request = ARGV[1], ARGV[2], ARGV[3]

local wrong = wrong_type(K.RECONCILED, 'hash') or wrong_type(K.RECONCILE_REQUESTS, 'hash')
  or wrong_type(K.RECONCILE_FAILED, 'hash')
if wrong then
  return redis.error_reply(wrong)
end
redis.call('HSET', K.RECONCILED, sponsorable, began_s)
redis.call('HDEL', K.RECONCILE_FAILED, sponsorable)
if redis.call('HGET', K.RECONCILE_REQUESTS, sponsorable) == request then
  redis.call('HDEL', K.RECONCILE_REQUESTS, sponsorable)
end
