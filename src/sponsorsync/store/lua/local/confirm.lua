-- On local: durable has what was exported. People leave dirty only where nothing changed meanwhile.
--
-- ARGV  for each person: durable's APPLIED when it took them; id, stamp and flags as exported
-- Replies  the number of people who left dirty
--- @include call_in_chunks parse_meta version_vector_of
--- @keys META DIRTY OUTBOX DEAD_LETTERS CONFIRMED

local confirmed, alive, clean = {}, {}, {}

for i = 1, #ARGV, 4 do
  local applied, id, version_vector, flags = unpack(ARGV, i, i + 3)
  local meta = K.META(id)
  local notes, parts = parse_meta(redis.call('HGETALL', meta))
  confirmed[#confirmed + 1] = applied
  confirmed[#confirmed + 1] = id
  alive[#alive + 1] = id
  if version_vector_of(notes, parts) ~= version_vector then
    -- Changed while it travelled: the next journey takes the rest. Also of who is not dirty any
    -- more: local was flushed meanwhile and has what durable had before this.
    redis.call('SADD', K.DIRTY, id)
    redis.call('XADD', K.OUTBOX, '*', 'u', id)
  elseif not string.find(flags, '[up]') then
    -- 'u': something was not known, 'p': only some of the parts were sent.
    clean[#clean + 1] = id
  end
end
call_in_chunks('ZADD', K.CONFIRMED, confirmed, 1, #confirmed)
call_in_chunks('HDEL', K.DEAD_LETTERS, alive, 1, #alive)
return call_in_chunks('SREM', K.DIRTY, clean, 1, #clean)
