--- @include exists presence
--- @keys NEGATIVE PENDING

local function has_pending(id, part)
  for _, field in ipairs(redis.call('HKEYS', K.PENDING(id))) do
    if string.sub(field, 1, #part + 1) == part .. '\n' then
      return true
    end
  end
  return false
end

-- Returns 'unknown', 'empty' or 'there' for a part on local. A part with changes that wait for
-- durable is unknown. If durable has recently answered that it does not have a part (NEGATIVE), the
-- part is known: it is what local has.
local function known_state(id, meta, part, key)
  if has_pending(id, part) then
    return 'unknown'
  end
  local state = presence(meta, part, key)
  if state == 'unknown' and redis.call('SISMEMBER', K.NEGATIVE(id), part) == 1 then
    return exists(key) and 'there' or 'empty'
  end
  return state
end
