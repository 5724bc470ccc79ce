-- Notes that an organization's members were judged, unless its cover has changed once more since.
--
-- ARGV  1 `{sponsorable}:{id}`  2 what was noted when that began

if redis.call('HGET', K.ORGANIZATIONS, ARGV[1]) == ARGV[2] then
  redis.call('HDEL', K.ORGANIZATIONS, ARGV[1])
end
