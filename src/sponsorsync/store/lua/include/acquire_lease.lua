--- @keys LEASE LEASE_TTL_MS

-- Takes the lease for a fetch of this person from durable, if it is free; returns the holder's
-- token.
local function acquire_lease(id, token)
  redis.call('SET', K.LEASE(id), token, 'NX', 'PX', LEASE_TTL_MS)
  return redis.call('GET', K.LEASE(id))
end
