-- On local: saves a login: the profile, the entitlement by each sponsorable, and the new session.
-- Saves nothing if an entitlement has changed since the caller read it.
--
-- ARGV  1 person id  2 lifetime of the session in seconds  3 key of the new session
--       4 key of the browser's former session, which ends ('': none)
--       5 JSON {"profile": {field: text | null to remove it},
--         "entitlements": {sponsorable: {field: text | null}}, "versions": {sponsorable: version of
--         the entitlement that the caller read}, "collections": [name],
--         "is_verified": boolean (local is not older than durable), "has_durable": boolean}
-- Replies  'ok' | 'changed' (an entitlement has another version)
--- @include audit commit is_visitor save_facts json_document now_s part_key profile save_hash
--- @include version_to_name wrong_service_type wrong_type
--- @keys USER_DETAILS PREFERENCES SPONSORSHIP META SPONSORS AUDIT SESSIONS

local id, session_s, session, old_session = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local data = cjson.decode(ARGV[5])
local profile, meta, sessions = K.USER_DETAILS(id), K.META(id), K.SESSIONS(id)

local wrong = wrong_type(profile, 'hash') or wrong_type(meta, 'hash')
  or wrong_type(sessions, 'zset') or wrong_service_type() or wrong_type(K.AUDIT, 'stream')
for sponsorable in pairs(data.entitlements) do
  wrong = wrong or wrong_type(K.SPONSORSHIP(sponsorable, id), 'hash')
    or wrong_type(K.SPONSORS(sponsorable), 'set')
end
for _, collection in ipairs(is_visitor(id) and {} or data.collections) do
  wrong = wrong or wrong_type(K.PREFERENCES(id, collection), 'set')
end
if wrong then
  return redis.error_reply(wrong)
end

for sponsorable, version in pairs(data.versions) do
  local part = 'entitlement:' .. sponsorable
  if version_to_name(id, meta, part, part_key(id, part)) ~= version then
    return 'changed'
  end
end

local changed, joined = { PROFILE }, false
save_hash(profile, data.profile)
for sponsorable, fields in pairs(data.entitlements) do
  local before = entitlement_for_audit(id, sponsorable)
  joined = save_facts(id, sponsorable, fields, data.is_verified, data.has_durable) or joined
  audit_entitlement(id, sponsorable, before, 'login', '')
  changed[#changed + 1] = 'entitlement:' .. sponsorable
end
if joined then
  add_collections(id, meta, data.collections, changed)
end
commit(id, meta, changed)
derive_document(id)

local now = now_s()
if old_session ~= '' then
  redis.call('DEL', old_session)
  redis.call('ZREM', sessions, old_session)
end
redis.call('ZREMRANGEBYSCORE', sessions, '-inf', now)
redis.call('SET', session, id, 'EX', session_s)
redis.call('ZADD', sessions, now + session_s, session)
-- A key with a TTL may be evicted, and revoke_sessions.lua would then miss sessions.
redis.call('PERSIST', sessions)
return 'ok'
