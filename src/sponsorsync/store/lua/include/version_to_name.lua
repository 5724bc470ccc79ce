--- @include known_state

-- Returns the version that a caller names when it saves what it derived from this part. A '?' marks
-- an unknown part: a fetch may bring another state under the same version, which the caller must
-- read before it overwrites it.
local function version_to_name(id, meta, part, key)
  local version = redis.call('HGET', meta, 'v:' .. part) or '0'
  return known_state(id, meta, part, key) == 'unknown' and version .. '?' or version
end
