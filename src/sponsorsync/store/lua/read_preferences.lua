-- Reads one person's collection.
--
-- KEYS  1 the set  2 meta  3 the visitor's hash of the same number
-- ARGV  1 collection
-- Replies  {'unknown' | 'empty' | 'there', members} | {'visitor'}

if redis.call('TYPE', KEYS[3]).ok == 'hash' then
  return { 'visitor' }
end
local wrong = check_type(KEYS[1], 'set') or check_type(KEYS[2], 'hash')
if wrong then
  return wrong
end
return { presence(KEYS[2], ARGV[1], KEYS[1]), redis.call('SMEMBERS', KEYS[1]) }
