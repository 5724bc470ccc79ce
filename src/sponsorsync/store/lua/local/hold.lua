-- On local: keeps or gives up a right that one replica has at a time, if it is still that token's.
--
-- ARGV  1 the right's key  2 the token  3 for how many more milliseconds; 0 gives it up
-- Replies  1, or 0 if somebody else has it, or nobody

if redis.call('GET', ARGV[1]) ~= ARGV[2] then
  return 0
end
return redis.call('PEXPIRE', ARGV[1], ARGV[3])
