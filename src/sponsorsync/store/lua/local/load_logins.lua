-- Reads the logins of people, as of when each last signed in.
--
-- ARGV  1 … person ids
-- Replies  for each the login, '' of who never did, and where a wrong-type key is in the profile's
-- place
--- @include exists
--- @keys USER_DETAILS

local logins = {}
for i, id in ipairs(ARGV) do
  local profile = K.USER_DETAILS(id)
  local login = exists(profile) and redis.pcall('HGET', profile, 'user_login')
  logins[i] = type(login) == 'string' and login or ''
end
return logins
