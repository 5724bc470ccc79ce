-- On local: gives a member a seat of an organization, if a seat is free. The seat expires after
-- SEAT_TTL_S, unless the sign-in succeeds and index_grants.lua saves the membership's end.
--
-- ARGV  1 sponsorable  2 organization id  3 person id of the member
--       4 number of seats ('': no limit)
-- Replies  1 (the member has a seat) | 0
--- @include now_s
--- @keys MEMBERS SEAT_TTL_S

local index, member, seats = K.MEMBERS(ARGV[1], ARGV[2]), ARGV[3], tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', index, '-inf', now_s())
local holds_until = tonumber(redis.call('ZSCORE', index, member) or '0')
if seats and holds_until == 0 and redis.call('ZCARD', index) >= seats then
  return 0
end
redis.call('ZADD', index, math.max(holds_until, now_s() + SEAT_TTL_S), member)
return 1
