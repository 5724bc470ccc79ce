-- Brings the fields of a hash to what is told; null stands for no field.
local function save_hash(key, fields)
  for field, value in pairs(fields) do
    if value == cjson.null then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, value)
    end
  end
end
