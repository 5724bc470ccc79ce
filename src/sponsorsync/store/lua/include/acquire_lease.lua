--- @keys LEASE LEASE_TTL_MS

-- Takes the lease to fetch this person from durable, if it is free; returns its holder's token.
local function acquire_lease(id, token)
  redis.call('SET', K.LEASE(id), token, 'NX', 'PX', LEASE_TTL_MS)
  return redis.call('GET', K.LEASE(id))
end
