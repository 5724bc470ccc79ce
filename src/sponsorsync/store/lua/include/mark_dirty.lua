--- @keys META DIRTY OUTBOX LEASE NEGATIVE

-- Dirty is the truth, the outbox only wakes: one entry for each person, however many changes. A
-- fetch that is under way has read what is no longer so, and a package that is under way has not
-- all that there is: `m` counts the marks, so that its confirmation is not taken for one of this.
local function mark_dirty(id)
  redis.call('DEL', K.LEASE(id), K.NEGATIVE(id))
  redis.pcall('HINCRBY', K.META(id), 'm', 1) -- a foreign meta is named by pack.lua
  if redis.call('SADD', K.DIRTY, id) == 1 then
    redis.call('XADD', K.OUTBOX, '*', 'u', id)
  end
end
