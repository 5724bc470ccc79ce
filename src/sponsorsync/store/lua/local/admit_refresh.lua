-- On local: rate limit for POST /me/refresh, for each person and for all people together, because
-- each refresh costs points of the maintainer's rate limit at GitHub.
--
-- ARGV  1 person id  2 … the sponsorables whose next full reconcile also answers this refresh
-- Replies  0 (admitted) | the milliseconds to wait until the next attempt
--- @include exists
--- @keys REFRESHED REFRESHES AWAITING_RECONCILE REFRESHED_TTL_MS REFRESHES_A_MINUTE

local own, all = K.REFRESHED(ARGV[1]), K.REFRESHES
local own_ms = exists(own) and redis.call('PTTL', own) or 0
if own_ms > 0 then
  return own_ms
end
if exists(all) and tonumber(redis.call('GET', all)) >= REFRESHES_A_MINUTE then
  return math.max(1, redis.call('PTTL', all))
end
if redis.call('INCR', all) == 1 then
  redis.call('EXPIRE', all, 60)
end
redis.call('SET', own, '1', 'PX', REFRESHED_TTL_MS)
for i = 2, #ARGV do
  redis.pcall('SADD', K.AWAITING_RECONCILE(ARGV[i]), ARGV[1])
end
return 0
