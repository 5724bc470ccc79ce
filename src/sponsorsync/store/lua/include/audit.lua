--- @include entitlement_of
--- @keys SPONSORSHIP SPONSORS AUDIT AUDIT_LENGTH

-- Returns what the audit trail compares before and after a change: `holds`, whether the person is
-- entitled now; `is_indexed`, whether the index of entitled people has them (it may still have a
-- person whose entitlement has just ended); and `text`, the facts as JSON.
local AUDITED = { 'source', 'tier_cents', 'is_one_time', 'privacy', 'since', 'valid_until', 'also' }
local function entitlement_for_audit(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(AUDITED))
  local members = {}
  for i, field in ipairs(facts.err and {} or AUDITED) do
    if facts[i] then
      members[#members + 1] = '"' .. field .. '":' .. cjson.encode(facts[i])
    end
  end
  return {
    holds = entitlement_of(id, sponsorable) or false,
    is_indexed = redis.pcall('SISMEMBER', K.SPONSORS(sponsorable), id) == 1,
    text = '{' .. table.concat(members, ',') .. '}',
  }
end

-- Records that an entitlement was granted, changed or lost; records nothing if it is as before.
-- `before` is what entitlement_for_audit returned before the change; `by` and `reference` name the
-- cause. `has_changed` records a change although the facts are equal: a grant has expired.
local function audit_entitlement(id, sponsorable, before, by, reference, has_changed)
  local after = entitlement_for_audit(id, sponsorable)
  local what
  if after.holds then
    what = not before.holds and 'granted'
      or (has_changed or before.text ~= after.text) and 'changed'
  else
    what = (before.holds or before.is_indexed) and 'lost'
  end
  if what then
    -- A pcall, because sweep_entitlements.lua has not checked the type of AUDIT and has to go on
    -- without the trail. The scripts that save facts have checked it.
    redis.pcall(
      'XADD', K.AUDIT, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'id', id, 'sponsorable', sponsorable,
      'what', what, 'by', by, 'reference', reference, 'before', before.text, 'after', after.text
    )
  end
end
