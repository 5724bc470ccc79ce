--- @include wrong_person_type wrong_type
--- @keys USER_DETAILS

-- Returns what a function reads of one person. It checks no type beforehand, since that would cost
-- each reader something; where it meets a wrong-type key, the error tells which.
local function read_person(id, sponsorables, read)
  local is_fine, reply = pcall(read)
  if is_fine then
    return reply
  end
  local wrong = wrong_person_type(id, sponsorables) or wrong_type(K.USER_DETAILS(id), 'hash')
  if wrong then
    return redis.error_reply(wrong)
  end
  error(reply)
end
