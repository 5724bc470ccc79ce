--- @include exists part_type size_of

-- Records presence and size of a part; by the size mark_foreign.lua recognizes our own writes.
local function save_presence(meta, part, key)
  redis.call('HSET', meta, 'p:' .. part, exists(key) and '1' or '0')
  if part_type(part) == 'set' then
    redis.call('HSET', meta, 'n:' .. part, size_of(key))
  end
end
