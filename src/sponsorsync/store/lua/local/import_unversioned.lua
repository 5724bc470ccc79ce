-- On local, for the first import: finds parts without a version, gives them version 0, and marks
-- their people dirty. merge.lua merges such a part with durable's part before it is pushed.
--
-- ARGV  1 'mark', or 'count' to change nothing  2 JSON {"sponsorables": [login],
--       "collections": [name]}  3 … person ids
-- Replies  {ids of people with such parts, number of ids that anonymous visitors have, too, error
--          sentences for wrong-type keys}
--- @include exists is_visitor mark_dirty part_key part_type profile wrong_service_type wrong_type
--- @keys META VISITOR

local may_write, catalog = ARGV[1] == 'mark', cjson.decode(ARGV[2])
local imported, visitors, wrongs = {}, 0, {}

local wrong_service = wrong_service_type()
if wrong_service then
  return redis.error_reply(wrong_service)
end

local parts = { PROFILE }
for _, sponsorable in ipairs(catalog.sponsorables) do
  parts[#parts + 1] = 'entitlement:' .. sponsorable
end
for _, collection in ipairs(catalog.collections) do
  parts[#parts + 1] = collection
end

local presences, ids = {}, {}
for i, part in ipairs(parts) do
  presences[i] = 'p:' .. part
end
for i = 3, #ARGV do
  ids[#ids + 1] = K.VISITOR(ARGV[i])
end
local some_visitors = #ids > 0 and redis.call('EXISTS', unpack(ids)) > 0

for i = 3, #ARGV do
  local id, unversioned = ARGV[i], {}
  local meta, visitor = K.META(id), some_visitors and is_visitor(ARGV[i])
  if visitor then
    visitors = visitors + 1
  end
  local recorded = redis.pcall('HMGET', meta, unpack(presences))
  local wrong = recorded.err and (wrong_type(meta, 'hash') or recorded.err)
  for k, part in ipairs(wrong and {} or parts) do
    local kind, key = part_type(part), part_key(id, part)
    local is_theirs = visitor and kind == 'set'
    if not recorded[k] and not is_theirs and exists(key) then
      wrong = wrong or wrong_type(key, kind)
      unversioned[#unversioned + 1] = part
    end
  end
  if wrong then
    wrongs[#wrongs + 1] = wrong
  elseif #unversioned > 0 then
    imported[#imported + 1] = id
    if may_write then
      for _, part in ipairs(unversioned) do
        redis.call('HSETNX', meta, 'v:' .. part, '0')
      end
      mark_dirty(id)
    end
  end
end
return { imported, visitors, wrongs }
