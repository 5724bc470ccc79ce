-- Reads the cover of people by one sponsorable.
--
-- ARGV  1 sponsorable  2 … person ids
-- Replies  for each person {version to name when it is changed, 1 if all of it is known here else 0, facts as a flat
--          list}

local part, replies = 'cover:' .. ARGV[1], {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local meta, key = K.META(id), part_key(id, part)
  local known = known_state(id, meta, part, key) ~= 'unknown'
    and not (exists(key) and redis.call('HEXISTS', key, 'partial') == 1)
  replies[#replies + 1] = {
    version_to_name(id, meta, part, key),
    known and 1 or 0,
    exists(key) and redis.call('HGETALL', key) or {},
  }
end
return replies
