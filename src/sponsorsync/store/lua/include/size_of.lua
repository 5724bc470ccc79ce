--- @include exists

local function size_of(set)
  return exists(set) and redis.call('SCARD', set) or 0
end
