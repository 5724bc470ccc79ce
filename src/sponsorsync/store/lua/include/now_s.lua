-- Asks for the time once: a script is one moment.
local moment_s
local function now_s()
  moment_s = moment_s or tonumber(redis.call('TIME')[1])
  return moment_s
end
