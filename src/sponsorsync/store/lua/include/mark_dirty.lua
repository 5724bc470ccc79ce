--- @keys META DIRTY OUTBOX LEASE NEGATIVE

-- Marks a person as changed. Dirty is the truth, the outbox only wakes: it gets one entry a person,
-- however many changes follow. A fetch under way has read old data, so its lease ends. A person
-- record under way has it, too: `m` counts the marks, so its confirmation ignores this change.
local function mark_dirty(id)
  redis.call('DEL', K.LEASE(id), K.NEGATIVE(id))
  redis.pcall('HINCRBY', K.META(id), 'm', 1) -- pack.lua reports a meta of the wrong type
  if redis.call('SADD', K.DIRTY, id) == 1 then
    redis.call('XADD', K.OUTBOX, '*', 'u', id)
  end
end
