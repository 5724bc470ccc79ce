-- Returns whether a key exists. It uses OBJECT: for a missing key, EXISTS, TYPE and all reading
-- commands send a key-miss notification, for which our own listeners would fetch from durable.
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end
