-- Notes that members of organizations were judged, unless there is something new to judge them on.
--
-- ARGV  a field of the notes, and what it said when that began; and so on
-- Replies  nothing
--- @keys ORGANIZATIONS

for i = 1, #ARGV, 2 do
  if redis.call('HGET', K.ORGANIZATIONS, ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', K.ORGANIZATIONS, ARGV[i])
  end
end
