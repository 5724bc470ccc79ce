-- On local: deletes a lease, unless it has expired and has another holder by now.
--
-- ARGV  1 person id  2 the caller's token
-- Replies  1 (deleted) | 0 (the caller does not hold the lease)
--- @keys LEASE

if redis.call('GET', K.LEASE(ARGV[1])) == ARGV[2] then
  return redis.call('DEL', K.LEASE(ARGV[1]))
end
return 0
