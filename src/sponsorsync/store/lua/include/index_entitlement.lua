--- @include entitlement_of grants evaluate_entitlement now_s
--- @keys SPONSORSHIP SPONSORS ENTITLEMENT_ENDS

-- Returns the next moment at which the person's own sponsorship or one of their grants ends; nil if
-- none of them will end.
local function next_end_of(id, sponsorable)
  local source, own = unpack(redis.call('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE)))
  local next_end
  local function consider(ends)
    if ends and ends > now_s() and (not next_end or ends < next_end) then
      next_end = ends
    end
  end
  consider(source ~= 'none' and tonumber(own or ''))
  for _, grant in ipairs(grants_of(id, sponsorable)) do
    consider(grant.has_seat ~= false and tonumber(grant['until'] or ''))
  end
  return next_end
end

-- Updates the index of entitled people and the index of ends from the stored facts. Returns whether
-- the person is new in the index of entitled people, whether they are entitled, and when their
-- entitlement ends or ended (nil: never).
local function index_entitlement(id, sponsorable)
  local entitled, ends = entitlement_of(id, sponsorable)
  local member, next_end = sponsorable .. ':' .. id, entitled and next_end_of(id, sponsorable)
  if next_end then
    redis.call('ZADD', K.ENTITLEMENT_ENDS, next_end, member)
  else
    redis.call('ZREM', K.ENTITLEMENT_ENDS, member)
  end
  if entitled then
    return redis.call('SADD', K.SPONSORS(sponsorable), id) == 1, entitled, ends
  end
  redis.call('SREM', K.SPONSORS(sponsorable), id)
  return false, entitled, ends
end
