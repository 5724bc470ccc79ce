--- @include exists part_type size_of

-- Records the presence of a part, and the size of a set. The size tells mark_foreign.lua whether
-- our scripts or the application wrote the set last.
local function save_presence(meta, part, key)
  redis.call('HSET', meta, 'p:' .. part, exists(key) and '1' or '0')
  if part_type(part) == 'set' then
    redis.call('HSET', meta, 'n:' .. part, size_of(key))
  end
end
