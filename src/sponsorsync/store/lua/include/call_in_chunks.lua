--- @include chunk

-- Calls a variadic command with values[first..last], in chunks; returns the sum of the replies.
local function call_in_chunks(command, key, values, first, last)
  local sum = 0
  for from = first, last, CHUNK do
    sum = sum + redis.call(command, key, unpack(values, from, math.min(from + CHUNK - 1, last)))
  end
  return sum
end
