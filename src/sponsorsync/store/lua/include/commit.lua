--- @include mark_dirty save_presence part_key versions

-- Ends a change of parts: gives all of them one new version. It must be later than their own, which
-- the index of people may lack: the capture inside Redis (write_behind.py) does not update that.
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
