--- @include now_s

-- The fields of a cover that decide: those of the person's own sponsorship at GitHub, and until when
-- anything else covers them ('never': that has no end). `partial` is behind them (save_cover).
local DECISIVE = { 'source', 'valid_until', 'also_until', 'partial' }

-- Whether these facts amount to cover at this moment, and when that ends (or ended).
local function judge_cover(source, valid_until, also_until)
  local own, also = tonumber(valid_until or ''), tonumber(also_until or '')
  local is_sponsor = source and source ~= 'none'
  if (is_sponsor and not own) or also_until == 'never' then
    return true, nil
  end
  local ends = math.max(is_sponsor and own or 0, also or 0)
  return ends > now_s(), ends > 0 and ends or nil
end
