--- @include known_state

-- Returns the version that a caller reads along with this part and passes when it saves a change:
-- the save is refused if the version differs by then. An unknown part has a '?' appended: a fetch
-- may fill it without changing the version, and the caller must not overwrite that unread.
local function version_to_name(id, meta, part, key)
  local version = redis.call('HGET', meta, 'v:' .. part) or '0'
  return known_state(id, meta, part, key) == 'unknown' and version .. '?' or version
end
