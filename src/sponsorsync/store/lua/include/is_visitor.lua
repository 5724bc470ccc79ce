--- @include exists
--- @keys VISITOR

-- Whether the number belongs to an anonymous visitor of the application: its sets are theirs.
local function is_visitor(id)
  return exists(K.VISITOR(id)) and redis.call('TYPE', K.VISITOR(id)).ok == 'hash'
end
