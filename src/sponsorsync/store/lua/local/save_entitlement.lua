-- On local: saves facts of one person's entitlement, unless the entitlement has changed since the
-- caller read it. The person may never have signed in.
--
-- ARGV  1 person id  2 sponsorable  3 version of the entitlement that the caller read
--       4 delivery id of a webhook event, which is applied only once ('': not an event)
--       5 JSON {"facts": {field: text | null to remove it}, "collections": [name],
--         "is_verified": boolean (local is not older than durable), "has_durable": boolean,
--         "by": cause for the audit trail, "reference": details of the cause}
-- Replies  'ok' | 'changed' (the entitlement has another version)
--          | 'seen' (the delivery was applied before)
--          | 'WRONGTYPE …' (names a wrong-type key of this person; if it is a key that all people
--          share, the script fails instead)
--- @include audit commit exists is_visitor save_facts json_document version_to_name
--- @include wrong_person_type wrong_service_type wrong_type
--- @keys PREFERENCES SPONSORSHIP META DELIVERY AUDIT DELIVERY_TTL_S

local id, sponsorable, version, delivery = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local data = cjson.decode(ARGV[5])
local part, meta = 'entitlement:' .. sponsorable, K.META(id)

local wrong_service = wrong_service_type({ sponsorable }) or wrong_type(K.AUDIT, 'stream')
if wrong_service then
  return redis.error_reply(wrong_service)
end
local wrong = wrong_person_type(id, { sponsorable })
for _, collection in ipairs(is_visitor(id) and {} or data.collections) do
  wrong = wrong or wrong_type(K.PREFERENCES(id, collection), 'set')
end
if wrong then
  return wrong
end
if delivery ~= '' and exists(K.DELIVERY(delivery)) then
  return 'seen'
end
if version_to_name(id, meta, part, K.SPONSORSHIP(sponsorable, id)) ~= version then
  return 'changed'
end

local changed, before = { part }, entitlement_for_audit(id, sponsorable)
if save_facts(id, sponsorable, data.facts, data.is_verified, data.has_durable) then
  add_collections(id, meta, data.collections, changed)
end
audit_entitlement(id, sponsorable, before, data.by, data.reference)
commit(id, meta, changed)
derive_document(id)
if delivery ~= '' then
  redis.call('SET', K.DELIVERY(delivery), '1', 'EX', DELIVERY_TTL_S)
end
return 'ok'
