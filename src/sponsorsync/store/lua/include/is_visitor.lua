--- @include exists
--- @keys VISITOR

-- Returns whether an anonymous visitor of the application has this number and so owns its sets.
local function is_visitor(id)
  return exists(K.VISITOR(id)) and redis.call('TYPE', K.VISITOR(id)).ok == 'hash'
end
