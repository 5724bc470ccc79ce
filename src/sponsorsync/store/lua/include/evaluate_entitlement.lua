--- @include now_s

-- The fields of an entitlement that decide: those of the person's own sponsorship at GitHub, and
-- until when anything else entitles them ('never': that has no end). `partial` is behind them
-- (save_entitlement).
local DECISIVE = { 'source', 'valid_until', 'also_until', 'partial' }

-- Whether these facts amount to entitle at this moment, and when that ends (or ended).
local function evaluate_entitlement(source, valid_until, also_until)
  local own, also = tonumber(valid_until or ''), tonumber(also_until or '')
  local is_sponsor = source and source ~= 'none'
  if (is_sponsor and not own) or also_until == 'never' then
    return true, nil
  end
  local ends = math.max(is_sponsor and own or 0, also or 0)
  return ends > now_s(), ends > 0 and ends or nil
end
