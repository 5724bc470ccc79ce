--- @include exists evaluate_presence

local function presence(meta, part, key)
  return evaluate_presence(redis.call('HGET', meta, 'p:' .. part), exists(key))
end
