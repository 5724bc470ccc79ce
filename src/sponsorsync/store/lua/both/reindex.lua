-- On either server: updates that server's indexes of entitled people and of ends from its own facts
-- on one person.
--
-- ARGV  1 person id  2 JSON [sponsorable]
-- Replies  'ok'
--- @include index_entitlement wrong_type
--- @keys SPONSORSHIP SPONSORS ENTITLEMENT_ENDS

local id, sponsorables = ARGV[1], cjson.decode(ARGV[2])

local wrong = wrong_type(K.ENTITLEMENT_ENDS, 'zset')
for _, sponsorable in ipairs(sponsorables) do
  wrong = wrong or wrong_type(K.SPONSORS(sponsorable), 'set')
    or wrong_type(K.SPONSORSHIP(sponsorable, id), 'hash')
end
if wrong then
  return redis.error_reply(wrong)
end
for _, sponsorable in ipairs(sponsorables) do
  index_entitlement(id, sponsorable)
end
return 'ok'
