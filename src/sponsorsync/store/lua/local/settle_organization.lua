-- On local: removes requests to evaluate members; a later request in the same place stays.
--
-- ARGV  alternately a field of ORGANIZATIONS and the version that was handled
-- Replies  nothing
--- @keys ORGANIZATIONS

for i = 1, #ARGV, 2 do
  if redis.call('HGET', K.ORGANIZATIONS, ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', K.ORGANIZATIONS, ARGV[i])
  end
end
