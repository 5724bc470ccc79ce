--- @include exists
--- @keys VISITOR

-- Returns whether an anonymous visitor of the application has the same number as this person. The
-- sets `user:{id}:{collection}` are the visitor's then.
local function is_visitor(id)
  return exists(K.VISITOR(id)) and redis.call('TYPE', K.VISITOR(id)).ok == 'hash'
end
