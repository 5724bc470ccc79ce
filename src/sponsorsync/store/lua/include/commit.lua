--- @include mark_dirty save_presence part_key versions

-- Ends a change of parts: gives all of them one new version, and marks the person dirty. The new
-- version must be later than the parts' present ones. next_version() alone does not ensure that: it
-- reads the index of people, which write_behind.py (RedisGears) does not update.
local function commit(id, meta, parts)
  local latest, fields = 0, {}
  for i, part in ipairs(parts) do
    fields[i] = 'v:' .. part
  end
  for _, version in ipairs(redis.call('HMGET', meta, unpack(fields))) do
    latest = math.max(latest, tonumber(version or '0'))
  end
  local version = string.format('%.0f', math.max(tonumber(next_version()), latest + 1))
  for _, part in ipairs(parts) do
    redis.call('HSET', meta, 'v:' .. part, version)
    save_presence(meta, part, part_key(id, part))
  end
  index_person(id, version)
  mark_dirty(id)
end
