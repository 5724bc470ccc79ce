-- On local: makes a person travel again after a comparison found a difference.
--
-- ARGV  1 person id  then alternately what to do, and with which part:
--       'mark'    nothing but travel
--       'raise'   what is here counts: it gets a new version
--       'unite'   both sides have lost something, or a removal was not noticed: nobody can tell, so
--                 nothing is dropped. The part is unknown until it is united with durable's
--       'narrow'  durable's copy of somebody who is not entitled has more than there is here
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
  local how, part = ARGV[i], ARGV[i + 1]
  local is_known = presence(meta, part, part_key(id, part)) ~= 'unknown'
  if how == 'merge_sets' then
    redis.call('HDEL', meta, 'p:' .. part)
    redis.call('HSETNX', meta, 'v:' .. part, '0')
  elseif how == 'raise' and is_known then
    changed[#changed + 1] = part
  elseif how == 'prune' and is_known then
    redis.call('HSET', meta, 'd:' .. part, '1')
    changed[#changed + 1] = part
  end
end
if #changed > 0 then
  commit(id, meta, changed)
end
derive_document(id) -- somebody may have written past the service
mark_dirty(id)
-- Also where somebody was dirty already: the entry may be gone.
redis.call('XADD', K.OUTBOX, '*', 'u', id)
return 'ok'
