-- Keeps what a login told: the profile, the cover by each sponsorable, and the new session.
--
-- KEYS  1 profile  2 meta  3 dirty  4 outbox  5 cover ends  6 the new session  7 the person's
--       sessions  8 the session that the browser had before (it ends; may be the new one's name
--       when there was none)  then, for each cover, two keys: its hash and the index of the covered
-- ARGV  1 person id  2 seconds that the session lives
--       3 JSON {"profile": {field: text | null}, "covers": [{"part", "end_member", "fields":
--         {field: text | null}}], "collections": [name]}; null removes a field
-- Replies  'ok'

local profile, meta, dirty, outbox, cover_ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local session, sessions, old_session = KEYS[6], KEYS[7], KEYS[8]
local id, session_s, data = ARGV[1], tonumber(ARGV[2]), cjson.decode(ARGV[3])
local first_cover = 9

local wrong = check_type(profile, 'hash') or check_type(meta, 'hash') or check_type(dirty, 'set')
  or check_type(outbox, 'stream') or check_type(cover_ends, 'zset')
  or check_type(sessions, 'zset')
for i = first_cover, #KEYS, 2 do
  wrong = wrong or check_type(KEYS[i], 'hash') or check_type(KEYS[i + 1], 'set')
end
if wrong then
  return wrong
end

local now_s = math.floor(now_us() / 1000000)

local function save_hash(key, fields)
  for field, value in pairs(fields) do
    if value == cjson.null then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, value)
    end
  end
end

-- Whoever is covered from now on brings along what is there: each collection gets a newer version,
-- so that the durable side, which may hold an older one, takes it.
local function raise_collections()
  for _, collection in ipairs(data.collections) do
    if redis.call('HEXISTS', meta, 'p:' .. collection) == 1 then
      raise_version(meta, collection)
    end
  end
end

local function save_cover(cover, hash, index)
  save_hash(hash, cover.fields)
  local ends = tonumber(redis.call('HGET', hash, 'valid_until') or '') -- nil: it has no end
  local covered = redis.call('HGET', hash, 'source') ~= 'none' and (not ends or ends > now_s)
  if not covered then
    redis.call('SREM', index, id)
  elseif redis.call('SADD', index, id) == 1 then
    raise_collections()
  end
  if covered and ends then
    redis.call('ZADD', cover_ends, ends, cover.end_member)
  else
    redis.call('ZREM', cover_ends, cover.end_member)
  end
  note_presence(meta, cover.part, hash)
  raise_version(meta, cover.part)
end

redis.call('HSETNX', profile, 'first_seen', data.profile.last_login)
save_hash(profile, data.profile)
note_presence(meta, 'profile', profile)
raise_version(meta, 'profile')
for i, cover in ipairs(data.covers) do
  save_cover(cover, KEYS[first_cover + 2 * (i - 1)], KEYS[first_cover + 2 * (i - 1) + 1])
end
mark_dirty(dirty, outbox, id)

redis.call('DEL', old_session)
redis.call('ZREM', sessions, old_session)
redis.call('ZREMRANGEBYSCORE', sessions, '-inf', now_s)
redis.call('SET', session, id, 'EX', session_s)
redis.call('ZADD', sessions, now_s + session_s, session)
redis.call('EXPIRE', sessions, session_s)
return 'ok'
