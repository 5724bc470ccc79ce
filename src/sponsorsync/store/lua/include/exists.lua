-- Returns whether a key exists. For a missing key, EXISTS, TYPE and all reading commands notify the
-- listeners of key misses, which are ours; OBJECT does not.
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end
