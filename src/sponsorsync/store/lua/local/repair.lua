-- On local: makes a person travel again after a comparison found a difference.
--
-- ARGV  1 person id  then alternately a repair and its part:
--       'mark'        changes nothing, so the person travels as they are
--       'raise'       local's state wins: it gets a new version
--       'merge_sets'  both servers lost something, or a removal was missed. Nothing is dropped: the
--                     part is unknown until it is merged with durable's
--       'prune'       durable's copy has members that local, of a person not entitled, lacks
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
-- Also for a person who was dirty: their entry may be gone.
redis.call('XADD', K.OUTBOX, '*', 'u', id)
return 'ok'
