--- @include exists judge_presence

local function presence(meta, part, key)
  return judge_presence(redis.call('HGET', meta, 'p:' .. part), exists(key))
end
