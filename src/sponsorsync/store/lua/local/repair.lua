-- On local: marks a person dirty, so that they are pushed again, after a comparison of the two
-- servers found differences; prepares each differing part.
--
-- ARGV  1 person id  then alternately a repair and the part to which it applies:
--       'mark'        leaves the part as it is
--       'raise'       gives local's part a new version, so that it replaces durable's
--       'merge_sets'  makes the part unknown, so that it is merged with durable's and the contents
--                     of both are kept: both servers may lack something
--       'prune'       has durable's copy pruned: the person is not entitled, and the copy has
--                     members that local lacks
-- Replies  'ok'
--- @include commit json_document mark_dirty part_key part_type presence wrong_service_type
--- @include wrong_type
--- @keys META OUTBOX

local id, meta = ARGV[1], K.META(ARGV[1])

local wrong = wrong_type(meta, 'hash') or wrong_service_type()
for i = 2, #ARGV, 2 do
  wrong = wrong or wrong_type(part_key(id, ARGV[i + 1]), part_type(ARGV[i + 1]))
end
if wrong then
  return redis.error_reply(wrong)
end

local changed = {}
for i = 2, #ARGV, 2 do
  local repair, part = ARGV[i], ARGV[i + 1]
  local is_known = presence(meta, part, part_key(id, part)) ~= 'unknown'
  if repair == 'merge_sets' then
    redis.call('HDEL', meta, 'p:' .. part)
    redis.call('HSETNX', meta, 'v:' .. part, '0')
  elseif repair == 'raise' and is_known then
    changed[#changed + 1] = part
  elseif repair == 'prune' and is_known then
    redis.call('HSET', meta, 'd:' .. part, '1')
    changed[#changed + 1] = part
  end
end
if #changed > 0 then
  commit(id, meta, changed)
end
derive_document(id) -- a foreign write may have changed a hash
mark_dirty(id)
-- mark_dirty adds no entry for a person who was dirty before, and their earlier entry may be gone.
redis.call('XADD', K.OUTBOX, '*', 'u', id)
return 'ok'
