--- @keys META DIRTY OUTBOX LEASE NEGATIVE

-- Marks a person as dirty: durable has yet to confirm a change. The set DIRTY is the truth; the
-- outbox only wakes a relay, so it gets an entry only if the person was not dirty before. A fetch
-- from durable that is under way has read older data, so its lease is deleted. A person record that
-- is under way lacks this change: `m` counts the marks, so confirm.lua keeps the person dirty.
local function mark_dirty(id)
  redis.call('DEL', K.LEASE(id), K.NEGATIVE(id))
  redis.pcall('HINCRBY', K.META(id), 'm', 1) -- pack.lua reports a meta of the wrong type
  if redis.call('SADD', K.DIRTY, id) == 1 then
    redis.call('XADD', K.OUTBOX, '*', 'u', id)
  end
end
