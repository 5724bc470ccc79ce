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

-- What a reader or writer on local may take for granted. Changes that wait for durable make a part
-- unknown; durable's word that it has nothing makes an unknown part what local has.
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
