-- On local: reads the facts of people's entitlements by one sponsorable.
--
-- ARGV  1 sponsorable  2 … person ids
-- Replies  for each person {the version that a change passes (version_to_name.lua), 1 if local
--          knows all facts, else 0, facts as a flat list}; for a person with a wrong-type key
--          {error sentence that begins with 'WRONGTYPE' and names the key, 0, {}}
--- @include exists known_state part_key version_to_name wrong_person_type
--- @keys META

local sponsorable = ARGV[1]
local part, replies = 'entitlement:' .. sponsorable, {}

local function read(id)
  local meta, key = K.META(id), part_key(id, part)
  local is_known = known_state(id, meta, part, key) ~= 'unknown'
    and not (exists(key) and redis.call('HEXISTS', key, 'partial') == 1)
  return {
    version_to_name(id, meta, part, key),
    is_known and 1 or 0,
    exists(key) and redis.call('HGETALL', key) or {},
  }
end

for i = 2, #ARGV do
  local is_fine, reply = pcall(read, ARGV[i])
  if not is_fine then
    local wrong = wrong_person_type(ARGV[i], { sponsorable })
    if not wrong then
      error(reply)
    end
    reply = { wrong, 0, {} }
  end
  replies[#replies + 1] = reply
end
return replies
