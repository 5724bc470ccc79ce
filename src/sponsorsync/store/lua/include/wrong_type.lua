--- @include exists

-- Returns an error sentence if a key exists and has another type than `wanted`, else nil.
local function wrong_type(key, wanted)
  local found = exists(key) and redis.call('TYPE', key).ok or wanted
  if found ~= wanted then
    return 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. wanted
  end
end
