--- @include chunk exists

-- Calls report(i, is_member) for each i of first..last: 1 if the set contains values[i], else 0.
local function check_members(set, values, first, last, report)
  local is_there = exists(set)
  for from = first, last, CHUNK do
    local to = math.min(from + CHUNK - 1, last)
    local bits = is_there and redis.call('SMISMEMBER', set, unpack(values, from, to)) or {}
    for i = from, to do
      report(i, bits[i - from + 1] or 0)
    end
  end
end
