--- @keys QUIET QUIET_TTL_MS

-- Calls a function that writes sets: whoever captures foreign writes (gears_scripts/write_behind.py)
-- looks away meanwhile.
local function quietly(write)
  redis.call('SET', K.QUIET, '1', 'PX', QUIET_TTL_MS)
  local is_fine, reply = pcall(write)
  redis.call('DEL', K.QUIET)
  if not is_fine then
    error(reply)
  end
  return reply
end
