-- Gives a member one of an organization's seats, where one is free: each membership that still
-- holds has one. It is held for as long as a sign-in may take; what that keeps says until when
-- (index_grants).
--
-- ARGV  1 sponsorable  2 the organization's number  3 the member's
--       4 how many seats there are ('': no limit)
-- Replies  1 (the member has one) | 0
--- @include now_s
--- @keys MEMBERS SEAT_TTL_S

local index, member, seats = K.MEMBERS(ARGV[1], ARGV[2]), ARGV[3], tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', index, '-inf', now_s())
local held = tonumber(redis.call('ZSCORE', index, member) or '0')
if seats and held == 0 and redis.call('ZCARD', index) >= seats then
  return 0
end
redis.call('ZADD', index, math.max(held, now_s() + SEAT_TTL_S), member)
return 1
