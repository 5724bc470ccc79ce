-- Tells which of many ids stand in one person's collection.
--
-- KEYS  1 the set  2 meta  3 the visitor's hash of the same number
-- ARGV  1 collection  2 … the ids
-- Replies  {'unknown' | 'empty' | 'there', a string of '0' and '1', one for each id} | {'visitor'}

if redis.call('TYPE', KEYS[3]).ok == 'hash' then
  return { 'visitor' }
end
local wrong = check_type(KEYS[1], 'set') or check_type(KEYS[2], 'hash')
if wrong then
  return wrong
end
local bits = {}
for from = 2, #ARGV, CHUNK do
  local to = math.min(from + CHUNK - 1, #ARGV)
  bits[#bits + 1] = table.concat(redis.call('SMISMEMBER', KEYS[1], unpack(ARGV, from, to)))
end
return { presence(KEYS[2], ARGV[1], KEYS[1]), table.concat(bits) }
