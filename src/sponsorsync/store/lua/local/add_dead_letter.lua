-- On local: records that durable refuses a person's data. The person stays dirty; each further
-- failure doubles the wait until the next attempt.
--
-- ARGV  1 person id  2 the reason  3 the first wait in seconds  4 the longest wait in seconds
-- Replies  the time of the next attempt, in seconds since 1970
--- @include now_s
--- @keys DEAD_LETTERS

local id, reason, first_s, longest_s = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now, before = now_s(), redis.call('HGET', K.DEAD_LETTERS, id)
local record = { reason = reason, since = now, tries = 0 }
if before then
  record = cjson.decode(before)
end
record.reason, record.tries = reason, record.tries + 1
record.next_try = now + math.min(first_s * 2 ^ (record.tries - 1), longest_s)
redis.call('HSET', K.DEAD_LETTERS, id, cjson.encode(record))
return record.next_try
