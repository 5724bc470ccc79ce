-- On local: reads one person's profile and entitlements.
--
-- ARGV  1 person id  2 a random token for the lease ('': reply also if something is unknown)
--       3 … the sponsorables
-- Replies  {'ok', profile, then for each sponsorable the version that a change of the entitlement
--          passes (version_to_name.lua), and the entitlement}; hashes are flat lists
--          | {'ask', token of the lease's holder} (something must be fetched from durable first)
--- @include exists known_state part_key profile read_person acquire_lease version_to_name
--- @keys META

local id, token = ARGV[1], ARGV[2]
local meta = K.META(id)

return read_person(id, { unpack(ARGV, 3) }, function()
  local answer, is_known = { 'ok' }, true
  local function read(part)
    local key = part_key(id, part)
    is_known = is_known and known_state(id, meta, part, key) ~= 'unknown'
    answer[#answer + 1] = exists(key) and redis.call('HGETALL', key) or {}
  end
  read(PROFILE)
  for i = 3, #ARGV do
    local part = 'entitlement:' .. ARGV[i]
    answer[#answer + 1] = version_to_name(id, meta, part, part_key(id, part))
    read(part)
  end
  if not is_known and token ~= '' then
    return { 'ask', acquire_lease(id, token) }
  end
  return answer
end)
