--- @include wrong_person_type wrong_type
--- @keys USER_DETAILS

-- Returns what read() does. Types are checked only after an error, which then names the wrong-type
-- key: checking them first would cost each reader time.
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
