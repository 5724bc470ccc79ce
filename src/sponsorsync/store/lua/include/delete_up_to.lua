--- @include part_key part_type parts_in version_of wrong_type

-- An account that was deleted takes with it every part that was not made anew since.
local function delete_up_to(id, meta, deleted)
  if tonumber(deleted) <= tonumber(redis.call('HGET', meta, 'x') or '0') then
    return
  end
  for _, part in ipairs(parts_in(meta)) do
    local version = version_of(meta, part)
    -- 0: written past the service, and not united with durable yet, so after what durable tells.
    if version > 0 and version <= tonumber(deleted) then
      if not wrong_type(part_key(id, part), part_type(part)) then
        redis.call('DEL', part_key(id, part))
      end
      redis.call('HDEL', meta, 'v:' .. part, 'p:' .. part, 'n:' .. part, 'd:' .. part)
    end
  end
  redis.call('HSET', meta, 'x', deleted)
end
