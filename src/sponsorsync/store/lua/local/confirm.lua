-- On local: records that durable has applied person records. Removes a person from DIRTY only if
-- they have not changed since the record was packed, and the record was complete.
--
-- ARGV  for each person: durable's APPLIED when it applied the record, person id, and the version
--       vector and flags that pack.lua returned
-- Replies  the number of people removed from DIRTY
--- @include call_in_chunks parse_meta version_vector_of
--- @keys META DIRTY OUTBOX DEAD_LETTERS CONFIRMED

local confirmed, accepted, clean = {}, {}, {}

for i = 1, #ARGV, 4 do
  local applied, id, version_vector, flags = unpack(ARGV, i, i + 3)
  local meta = K.META(id)
  local fields, parts = parse_meta(redis.call('HGETALL', meta))
  confirmed[#confirmed + 1] = applied
  confirmed[#confirmed + 1] = id
  accepted[#accepted + 1] = id
  if version_vector_of(fields, parts) ~= version_vector then
    -- The person has changed since the record was packed, so they are pushed again. They need not
    -- be dirty here: local may have been flushed and filled with durable's older state.
    redis.call('SADD', K.DIRTY, id)
    redis.call('XADD', K.OUTBOX, '*', 'u', id)
  elseif not string.find(flags, '[up]') then
    -- Neither 'u' (something was unknown) nor 'p' (only some parts were packed).
    clean[#clean + 1] = id
  end
end
call_in_chunks('ZADD', K.CONFIRMED, confirmed, 1, #confirmed)
call_in_chunks('HDEL', K.DEAD_LETTERS, accepted, 1, #accepted)
return call_in_chunks('SREM', K.DIRTY, clean, 1, #clean)
