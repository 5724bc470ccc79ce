-- Returns the server's time in seconds, the same in the whole script.
local moment_s
local function now_s()
  moment_s = moment_s or tonumber(redis.call('TIME')[1])
  return moment_s
end
