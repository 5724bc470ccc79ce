--- @keys LEASE LEASE_TTL_MS

-- Asks for the right to fetch this person from durable; returns who has it.
local function acquire_lease(id, token)
  redis.call('SET', K.LEASE(id), token, 'NX', 'PX', LEASE_TTL_MS)
  return redis.call('GET', K.LEASE(id))
end
