-- Shared by the scripts that change a person's data; it is put in front of each of them.
--
-- A change is one script: it checks every type before its first write, raises the version of each
-- part that it changes, records the presence, and marks the person dirty.

-- Lua can put some 8,000 values on its stack at once; more in one unpack is an error.
local CHUNK = 1000

local function check_type(key, wanted)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= wanted then
    return redis.error_reply('WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. wanted)
  end
end

-- Calls a variadic command with values[first..last], in chunks; returns the sum of the replies.
local function call_in_chunks(command, key, values, first, last)
  local sum = 0
  for from = first, last, CHUNK do
    sum = sum + redis.call(command, key, unpack(values, from, math.min(from + CHUNK - 1, last)))
  end
  return sum
end

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A version is later than the one before even when the clock went back, and later than whatever an
-- older copy of this Redis gave. '%.0f', since tostring() would say 1.79e+15.
local function raise_version(meta, part)
  local version = tonumber(redis.call('HGET', meta, 'v:' .. part) or '0')
  redis.call('HSET', meta, 'v:' .. part, string.format('%.0f', math.max(version + 1, now_us())))
end

-- Dirty is the truth, the outbox only wakes: one entry for each person, however many changes.
local function mark_dirty(dirty, outbox, id)
  if redis.call('SADD', dirty, id) == 1 then
    redis.call('XADD', outbox, '*', 'u', id)
  end
end

-- 'unknown', 'empty' or 'there'. A part that was there and whose key is missing was lost (evicted,
-- deleted by hand, flushed), which nobody did on purpose: it is unknown again. A key that appeared
-- in an empty part was written past the service, and is there.
local function presence(meta, part, key)
  local noted = redis.call('HGET', meta, 'p:' .. part)
  local exists = redis.call('EXISTS', key) == 1
  if noted == '1' then
    return exists and 'there' or 'unknown'
  elseif noted == '0' then
    return exists and 'there' or 'empty'
  end
  return 'unknown'
end

local function note_presence(meta, part, key)
  redis.call('HSET', meta, 'p:' .. part, redis.call('EXISTS', key))
end
