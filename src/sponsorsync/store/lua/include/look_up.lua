--- @include chunk exists

-- Calls found(i, 1 or 0) for each values[i] of first..last: does it stand in the set?
local function look_up(set, values, first, last, found)
  local is_there = exists(set)
  for from = first, last, CHUNK do
    local to = math.min(from + CHUNK - 1, last)
    local bits = is_there and redis.call('SMISMEMBER', set, unpack(values, from, to)) or {}
    for i = from, to do
      found(i, bits[i - from + 1] or 0)
    end
  end
end
