-- On local: reads a caller's session, profile and entitlement by one sponsorable.
--
-- ARGV  1 the session's key ('': use the person id)  2 person id ('': use the session's)
--       3 a random token for the lease ('': reply also if something is unknown)  4 the sponsorable
-- Replies  {'ok', person id, login or '', entitlement as a flat list} | {'none'} (no such session)
--          | {'ask', token of the lease's holder, person id}
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
