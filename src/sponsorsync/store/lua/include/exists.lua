-- Whether a key is there. EXISTS, TYPE and every command that reads would tell the listeners of key
-- misses (that is us) when it is not; OBJECT does not.
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end
