-- On local: deletes all data of a person and ends their sessions. The deletion's version `x` stays
-- in meta and is part of every later person record, so that older data are deleted on the other
-- server, too, and never come back.
--
-- ARGV  1 person id  2 JSON {"sponsorables": [login], "collections": [name]}
-- Replies  the version of the deletion
--- @include audit grants index_entitlement index_grants is_visitor json_document mark_dirty
--- @include parse_hash part_key part_type parts_in profile suppress_capture versions
--- @include wrong_service_type wrong_type
--- @keys META DEAD_LETTERS PENDING AUDIT AWAITING_RECONCILE SESSIONS

local id, catalog = ARGV[1], cjson.decode(ARGV[2])
local meta, sessions, visitor = K.META(id), K.SESSIONS(id), is_visitor(id)

local wrong = wrong_type(meta, 'hash') or wrong_type(sessions, 'zset')
  or wrong_service_type(catalog.sponsorables) or wrong_type(K.AUDIT, 'stream')
if wrong then
  return redis.error_reply(wrong)
end

local parts = parts_in(meta)
parts[#parts + 1] = PROFILE
for _, collection in ipairs(catalog.collections) do
  parts[#parts + 1] = collection
end
for _, sponsorable in ipairs(catalog.sponsorables) do
  parts[#parts + 1] = 'entitlement:' .. sponsorable
end
local before = {}
for _, sponsorable in ipairs(catalog.sponsorables) do
  before[sponsorable] = entitlement_for_audit(id, sponsorable)
  index_grants(id, sponsorable, grants_of(id, sponsorable), {})
end
suppress_capture(function()
  for _, part in ipairs(parts) do
    local key = part_key(id, part)
    if wrong_type(key, part_type(part)) == nil and not (visitor and part_type(part) == 'set') then
      redis.call('DEL', key)
    end
  end
end)
for _, sponsorable in ipairs(catalog.sponsorables) do
  index_entitlement(id, sponsorable)
  audit_entitlement(id, sponsorable, before[sponsorable], 'deletion', '')
  redis.pcall('SREM', K.AWAITING_RECONCILE(sponsorable), id)
end
for _, session in ipairs(redis.call('ZRANGE', sessions, 0, -1)) do
  redis.call('DEL', session)
end
local latest = 0
for field, version in pairs(parse_hash(redis.call('HGETALL', meta))) do
  if string.sub(field, 1, 2) == 'v:' then
    latest = math.max(latest, tonumber(version))
  end
end
local version = string.format('%.0f', math.max(tonumber(next_version()), latest + 1))
redis.call('DEL', sessions, meta, K.PENDING(id))
redis.call('HSET', meta, 'x', version)
redis.call('HDEL', K.DEAD_LETTERS, id)
derive_document(id)
index_person(id, version)
mark_dirty(id)
redis.call('HDEL', meta, 'm') -- the new `x` alone changes the version vector
return version
