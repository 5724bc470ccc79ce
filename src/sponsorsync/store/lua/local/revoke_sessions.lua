-- On local: ends all sessions of a person.
--
-- ARGV  1 person id
-- Replies  how many sessions there were
--- @keys SESSIONS

local sessions, ended = K.SESSIONS(ARGV[1]), 0
for _, session in ipairs(redis.call('ZRANGE', sessions, 0, -1)) do
  ended = ended + redis.call('DEL', session)
end
redis.call('DEL', sessions)
return ended
