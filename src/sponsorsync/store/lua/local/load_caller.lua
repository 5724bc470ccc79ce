-- Reads who calls, and their entitlement by one sponsorable: the session, the profile and the
-- entitlement at once.
--
-- ARGV  1 the session's key ('': the caller is known by ARGV 2)  2 person id ('': by the session)
--       3 a random token for the lease ('': answer what is here, known or not)  4 the sponsorable
-- Replies  {'ok', person id, login or '', entitlement as a flat list} | {'none'}: there is no such
-- session
--          | {'ask', holder of the lease, person id}
--- @include exists known_state profile read_person acquire_lease
--- @keys USER_DETAILS SPONSORSHIP META

local session, id, token, sponsorable = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if session ~= '' then
  id = exists(session) and redis.call('GET', session)
  if not id then
    return { 'none' }
  end
end
local meta, profile, entitlement = K.META(id), K.USER_DETAILS(id), K.SPONSORSHIP(sponsorable, id)
return read_person(id, { sponsorable }, function()
  if token ~= '' and (known_state(id, meta, PROFILE, profile) == 'unknown'
      or known_state(id, meta, 'entitlement:' .. sponsorable, entitlement) == 'unknown') then
    return { 'ask', acquire_lease(id, token), id }
  end
  return {
    'ok', id,
    exists(profile) and redis.call('HGET', profile, 'user_login') or '',
    exists(entitlement) and redis.call('HGETALL', entitlement) or {},
  }
end)
