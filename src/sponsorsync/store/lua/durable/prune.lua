-- On durable: removes members from durable's copy of a collection of a person who is no longer
-- entitled. Only removals are copied then: what the person adds does not leave local.
--
-- ARGV  1 person id  2 collection  3 version of the collection on local  4 … members to remove
-- Replies  the number of removed members; 0 also if durable has no copy of an older version
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
-- The copy's new version is just below the version on local. Local's set may have additions as
-- well, so it must still be newer than the copy when the person is entitled again.
local pruned = string.format('%.0f', tonumber(version) - 1)
redis.call('HSET', meta, 'v:' .. collection, pruned)
save_presence(meta, collection, set)
redis.call('ZADD', K.PEOPLE, redis.call('INCR', K.APPLIED), id)
return removed
