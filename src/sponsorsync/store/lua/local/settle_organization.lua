-- On local: removes handled requests to evaluate members. A later request, which has the same field
-- and another version, stays.
--
-- ARGV  alternately a field of ORGANIZATIONS and the version that was handled
-- Replies  nothing
--- @keys ORGANIZATIONS

for i = 1, #ARGV, 2 do
  if redis.call('HGET', K.ORGANIZATIONS, ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', K.ORGANIZATIONS, ARGV[i])
  end
end
