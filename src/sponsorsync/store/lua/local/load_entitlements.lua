-- On local: reads the entitlement of people by one sponsorable.
--
-- ARGV  1 sponsorable  2 … person ids
-- Replies  for each person {version to name in a change, 1 if all of it is known here else 0, facts
--          as a flat list}; a person with a wrong-type key counts as unknown, and their version is
--          the sentence that names it: 'WRONGTYPE …'
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
