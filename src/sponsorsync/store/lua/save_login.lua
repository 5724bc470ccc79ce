-- Keeps what a login told: the profile, the cover by each sponsorable, and the new session.
--
-- ARGV  1 person id  2 seconds that the session lives  3 the new session's key
--       4 the key of the session that the browser had before, which ends ('': none)
--       5 JSON {"profile": {field: text | null}, "covers": {sponsorable: {field: text | null}},
--         "collections": [name], "is_verified": boolean (local is not older than durable)}; null
--         removes a field
-- Replies  'ok'

local id, session_s, session, old_session = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local data = cjson.decode(ARGV[5])
local profile, meta, sessions = K.USER_DETAILS(id), K.META(id), K.SESSIONS(id)

local wrong = wrong_type(profile, 'hash') or wrong_type(meta, 'hash')
  or wrong_type(sessions, 'zset') or wrong_service_type()
for sponsorable in pairs(data.covers) do
  wrong = wrong or wrong_type(K.SPONSORSHIP(sponsorable, id), 'hash')
    or wrong_type(K.SPONSORS(sponsorable), 'set')
end
for _, collection in ipairs(is_visitor(id) and {} or data.collections) do
  wrong = wrong or wrong_type(K.PREFERENCES(id, collection), 'set')
end
if wrong then
  return redis.error_reply(wrong)
end

local function save_hash(key, fields)
  for field, value in pairs(fields) do
    if value == cjson.null then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, value)
    end
  end
end

local changed, joined = { PROFILE }, false
save_hash(profile, data.profile)
for sponsorable, fields in pairs(data.covers) do
  local was_covered = cover_of(id, sponsorable)
  save_hash(K.SPONSORSHIP(sponsorable, id), fields)
  -- Local may have come back older than the join, and with old sets: then it is judged once both
  -- sides were compared (absorb.lua), which the missing entry in the index asks for (export.lua).
  if data.is_verified or not cover_of(id, sponsorable)
      or redis.call('SISMEMBER', K.SPONSORS(sponsorable), id) == 1 then
    local is_new = index_cover(id, sponsorable)
    -- Not by the index alone: a cover that ended a moment ago may still stand in it.
    local came_back = data.is_verified and not was_covered and cover_of(id, sponsorable)
    joined = joined or is_new or came_back
  end
  changed[#changed + 1] = 'cover:' .. sponsorable
end
if joined then
  -- Whoever is covered from now on brings along what is there: with a newer version, so that
  -- durable, which may hold an older one, takes it.
  for _, collection in ipairs(data.collections) do
    if not is_visitor(id)
        and presence(meta, collection, K.PREFERENCES(id, collection)) ~= 'unknown' then
      changed[#changed + 1] = collection
    end
  end
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
redis.call('EXPIRE', sessions, session_s)
return 'ok'
