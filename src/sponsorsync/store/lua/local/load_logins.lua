-- On local: reads the logins of people, as of their last sign-in.
--
-- ARGV  1 … person ids
-- Replies  the login of each person; '' if local has no profile of theirs that can be read
--- @include exists
--- @keys USER_DETAILS

local logins = {}
for i, id in ipairs(ARGV) do
  local profile = K.USER_DETAILS(id)
  local login = exists(profile) and redis.pcall('HGET', profile, 'user_login')
  logins[i] = type(login) == 'string' and login or ''
end
return logins
