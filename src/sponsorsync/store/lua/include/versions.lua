--- @include now_us
--- @keys PEOPLE

-- A version is later than every other that this server gave, also when the clock went back.
-- Versions go through '%.0f', since tostring() would say 1.79e+15.
local function next_version()
  local last = redis.call('ZREVRANGE', K.PEOPLE, 0, 0, 'WITHSCORES')[2]
  return string.format('%.0f', math.max((tonumber(last) or 0) + 1, now_us()))
end

-- On local: notes a version of some part in the index of people, which keeps the greatest.
local function index_person(id, version)
  local known = tonumber(redis.call('ZSCORE', K.PEOPLE, id) or '0')
  if tonumber(version) > known then
    redis.call('ZADD', K.PEOPLE, version, id)
  end
end
