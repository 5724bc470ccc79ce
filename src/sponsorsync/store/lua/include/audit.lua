--- @include entitlement_of
--- @keys SPONSORSHIP SPONSORS AUDIT AUDIT_LENGTH

-- What the audit trail tells of an entitlement: whether it holds, and its facts as text.
-- `is_indexed`: the index of who is entitled says so, too; of an entitlement that ended a moment
-- ago only that is left.
local AUDITED = { 'source', 'tier_cents', 'is_one_time', 'privacy', 'since', 'valid_until', 'also' }
local function entitlement_for_audit(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(AUDITED))
  local told = {}
  for i, field in ipairs(facts.err and {} or AUDITED) do
    if facts[i] then
      told[#told + 1] = '"' .. field .. '":' .. cjson.encode(facts[i])
    end
  end
  return {
    holds = entitlement_of(id, sponsorable) or false,
    is_indexed = redis.pcall('SISMEMBER', K.SPONSORS(sponsorable), id) == 1,
    text = '{' .. table.concat(told, ',') .. '}',
  }
end

-- Notes a grant, a change or a loss of entitlement; nothing where there was none and is none, or
-- all stayed as it was. `before` is what entitlement_for_audit told ahead of the change; `by` and
-- `reference` say by what it came. `has_changed`: also where the facts are the same, since some of
-- them are over.
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
    -- Whoever writes entitles has checked the type; a sweep goes on without the trail.
    redis.pcall(
      'XADD', K.AUDIT, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'id', id, 'sponsorable', sponsorable,
      'what', what, 'by', by, 'reference', reference, 'before', before.text, 'after', after.text
    )
  end
end
