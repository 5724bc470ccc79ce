--- @include exists part_type size_of

local function save_presence(meta, part, key)
  redis.call('HSET', meta, 'p:' .. part, exists(key) and '1' or '0')
  if part_type(part) == 'set' then
    -- So that a change past the service can be told from ours (mark_foreign.lua).
    redis.call('HSET', meta, 'n:' .. part, size_of(key))
  end
end
