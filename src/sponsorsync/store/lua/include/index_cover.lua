--- @include cover_of grants judge_cover now_s
--- @keys SPONSORSHIP SPONSORS COVER_ENDS

-- The next moment at which something that covers somebody ends; nil if nothing does.
local function next_end_of(id, sponsorable)
  local source, own = unpack(redis.call('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE)))
  local found
  local function consider(ends)
    if ends and ends > now_s() and (not found or ends < found) then
      found = ends
    end
  end
  consider(source ~= 'none' and tonumber(own or ''))
  for _, grant in ipairs(grants_of(id, sponsorable)) do
    consider(grant.has_seat ~= false and tonumber(grant['until'] or ''))
  end
  return found
end

-- Brings the index of the covered, and the calendar of ends, to what the facts say; returns whether
-- the person has joined just now, whether they are covered, and when that ends (or ended).
local function index_cover(id, sponsorable)
  local covered, ends = cover_of(id, sponsorable)
  local member, next_end = sponsorable .. ':' .. id, covered and next_end_of(id, sponsorable)
  if next_end then
    redis.call('ZADD', K.COVER_ENDS, next_end, member)
  else
    redis.call('ZREM', K.COVER_ENDS, member)
  end
  if covered then
    return redis.call('SADD', K.SPONSORS(sponsorable), id) == 1, covered, ends
  end
  redis.call('SREM', K.SPONSORS(sponsorable), id)
  return false, covered, ends
end
