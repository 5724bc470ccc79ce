--- @keys CAPTURE_SUPPRESSED CAPTURE_SUPPRESSED_TTL_MS

-- Calls a function that writes sets, and returns its result. gears_scripts/write_behind.py ignores
-- writes meanwhile: it is to capture only those of the application.
local function suppress_capture(write)
  redis.call('SET', K.CAPTURE_SUPPRESSED, '1', 'PX', CAPTURE_SUPPRESSED_TTL_MS)
  local is_fine, reply = pcall(write)
  redis.call('DEL', K.CAPTURE_SUPPRESSED)
  if not is_fine then
    error(reply)
  end
  return reply
end
