--- @keys LEASE LEASE_TTL_MS

-- Takes the lease to fetch this person from durable, if it is free. Returns the token of the
-- lease's holder, which is the caller's token or another one.
local function acquire_lease(id, token)
  redis.call('SET', K.LEASE(id), token, 'NX', 'PX', LEASE_TTL_MS)
  return redis.call('GET', K.LEASE(id))
end
