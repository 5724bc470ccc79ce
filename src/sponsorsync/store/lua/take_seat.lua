-- Gives a member one of an organization's seats, where one is free: each membership that still holds
-- has one.
--
-- ARGV  1 sponsorable  2 the organization's number  3 the member's
--       4 the second until which the membership holds  5 how many seats there are ('': no limit)
-- Replies  1 (the member has one) | 0

local index, member, seats = K.MEMBERS(ARGV[1], ARGV[2]), ARGV[3], tonumber(ARGV[5])
redis.call('ZREMRANGEBYSCORE', index, '-inf', now_s())
if seats and not redis.call('ZSCORE', index, member) and redis.call('ZCARD', index) >= seats then
  return 0
end
redis.call('ZADD', index, ARGV[4], member)
return 1
