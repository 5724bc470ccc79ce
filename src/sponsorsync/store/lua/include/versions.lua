--- @include now_us
--- @keys PEOPLE

-- Returns a version that is later than all in this server's index of people, also if the clock was
-- set back. Formats it with '%.0f', because tostring() would write 1.79e+15.
local function next_version()
  local last = redis.call('ZREVRANGE', K.PEOPLE, 0, 0, 'WITHSCORES')[2]
  return string.format('%.0f', math.max((tonumber(last) or 0) + 1, now_us()))
end

-- On local: updates the index of people, which has the latest version of each person.
local function index_person(id, version)
  local indexed = tonumber(redis.call('ZSCORE', K.PEOPLE, id) or '0')
  if tonumber(version) > indexed then
    redis.call('ZADD', K.PEOPLE, version, id)
  end
end
