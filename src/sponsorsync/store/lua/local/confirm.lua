-- On local: records that durable has applied person records. A person leaves dirty only if nothing
-- has changed since the record was packed.
--
-- ARGV  for each person: durable's APPLIED of the record, person id, and version vector and flags
--       as packed
-- Replies  the number of people who left dirty
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
    -- Changed while the record travelled: the new state travels next. Local may also have been
    -- flushed and filled with durable's older state, so the person need not be dirty.
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
