-- Writes fields to a hash; removes a field whose value is null.
local function save_hash(key, fields)
  for field, value in pairs(fields) do
    if value == cjson.null then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, value)
    end
  end
end
