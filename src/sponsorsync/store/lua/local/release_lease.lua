-- On local: ends a lease, unless it has another holder by now.
--
-- ARGV  1 person id  2 the lease's token
-- Replies  1 if it was ours
--- @keys LEASE

if redis.call('GET', K.LEASE(ARGV[1])) == ARGV[2] then
  return redis.call('DEL', K.LEASE(ARGV[1]))
end
return 0
