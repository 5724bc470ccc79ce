-- Reads the logins of people, as of when each last signed in.
--
-- ARGV  1 … person ids
-- Replies  for each the login, '' of who never did

local logins = {}
for i, id in ipairs(ARGV) do
  local profile = K.USER_DETAILS(id)
  logins[i] = exists(profile) and redis.call('HGET', profile, 'user_login') or ''
end
return logins
