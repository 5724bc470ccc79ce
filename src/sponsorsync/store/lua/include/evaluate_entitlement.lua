--- @include now_s

-- The fields that decide on an entitlement: `source` and `valid_until` of the person's own
-- sponsorship at GitHub, and `also_until`, when the last other grant ends ('never': it has no end).
-- pack.lua also needs `partial` (see save_facts.lua).
local DECISIVE = { 'source', 'valid_until', 'also_until', 'partial' }

-- Returns whether these facts entitle now, and when the entitlement ends or ended (nil: it has no
-- end, or there was none).
local function evaluate_entitlement(source, valid_until, also_until)
  local own, also = tonumber(valid_until or ''), tonumber(also_until or '')
  local is_sponsor = source and source ~= 'none'
  if (is_sponsor and not own) or also_until == 'never' then
    return true, nil
  end
  local ends = math.max(is_sponsor and own or 0, also or 0)
  return ends > now_s(), ends > 0 and ends or nil
end
