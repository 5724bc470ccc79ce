--- @include wrong_person_type wrong_type
--- @keys USER_DETAILS

-- Returns the result of read(), or an error reply that names the person's wrong-type key. Types are
-- checked only after read() has failed: a check before it would slow down each reader.
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
