--- @include known_state

-- What was judged on a part names its version; with a '?' where it was unknown, so that what
-- somebody else has fetched meanwhile, which may be of the same version, is not overwritten unread.
local function version_to_name(id, meta, part, key)
  local version = redis.call('HGET', meta, 'v:' .. part) or '0'
  return known_state(id, meta, part, key) == 'unknown' and version .. '?' or version
end
