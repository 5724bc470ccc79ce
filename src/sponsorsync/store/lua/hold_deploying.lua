-- On local: keeps or gives up the right to upload scripts, if it is still that token's.
--
-- ARGV  1 the token  2 for how many more milliseconds; 0 gives it up
-- Replies  1, or 0 if somebody else has it, or nobody

if redis.call('GET', K.DEPLOYING) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', K.DEPLOYING, ARGV[2])
