-- Tells whether a person may have GitHub asked now, and notes that they do. Each may once in a
-- while, and all of them together so often a minute: the maintainer's budget pays for it.
--
-- ARGV  1 person id  2 … the sponsorables: the next complete comparison tells of this person, too
-- Replies  0 (they may) | after how many milliseconds they may ask again
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
