-- On durable: removes members from the copy that is kept of somebody who is not entitled any more.
-- It is never extended: what they add after the lapse does not leave local.
--
-- ARGV  1 person id  2 collection  3 version of the collection on local  4 … members to remove
-- Replies  how many were removed
--- @include call_in_chunks exists save_presence version_of wrong_type
--- @keys PREFERENCES META PEOPLE APPLIED

local id, collection, version = ARGV[1], ARGV[2], ARGV[3]
local set, meta = K.PREFERENCES(id, collection), K.META(id)

local wrong = wrong_type(set, 'set') or wrong_type(meta, 'hash') or wrong_type(K.PEOPLE, 'zset')
if wrong then
  return redis.error_reply(wrong)
end
if tonumber(version) <= version_of(meta, collection) or not exists(set) then
  return 0
end
local removed = call_in_chunks('SREM', set, ARGV, 4, #ARGV)
-- Just below the version on local: this is less than that state, which may have additions as well,
-- and has to be taken as newer when the person is entitled again.
local narrowed = string.format('%.0f', tonumber(version) - 1)
redis.call('HSET', meta, 'v:' .. collection, narrowed)
save_presence(meta, collection, set)
redis.call('ZADD', K.PEOPLE, redis.call('INCR', K.APPLIED), id)
return removed
