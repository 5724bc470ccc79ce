local function version_of(meta, part)
  return tonumber(redis.call('HGET', meta, 'v:' .. part) or '0')
end
