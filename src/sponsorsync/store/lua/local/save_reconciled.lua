-- Notes that a comparison with GitHub was complete, and so that none has failed since. Who asked
-- for a look before it began has been answered; who asked meanwhile has not, whoever compares.
--
-- ARGV  1 sponsorable  2 the second in which it began
--       3 what named, by then, the latest who had asked for a look ('': nobody had)
-- Replies  nothing, or an error that begins with 'WRONGTYPE'
--- @include wrong_type
--- @keys RECONCILED RECONCILE_FAILED RECONCILE_REQUESTS

local sponsorable, began_s, look = ARGV[1], ARGV[2], ARGV[3]

local wrong = wrong_type(K.RECONCILED, 'hash') or wrong_type(K.RECONCILE_REQUESTS, 'hash')
  or wrong_type(K.RECONCILE_FAILED, 'hash')
if wrong then
  return redis.error_reply(wrong)
end
redis.call('HSET', K.RECONCILED, sponsorable, began_s)
redis.call('HDEL', K.RECONCILE_FAILED, sponsorable)
if redis.call('HGET', K.RECONCILE_REQUESTS, sponsorable) == look then
  redis.call('HDEL', K.RECONCILE_REQUESTS, sponsorable)
end
