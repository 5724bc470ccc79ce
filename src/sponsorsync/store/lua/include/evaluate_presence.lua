-- 'unknown', 'empty' or 'there'. A part that was there and whose key is missing was lost (evicted,
-- deleted by hand, flushed), which nobody did on purpose: it is unknown again. A key that appeared
-- in an empty part was written past the service, and is there.
local function evaluate_presence(noted, exists)
  if noted == '1' then
    return exists and 'there' or 'unknown'
  elseif noted == '0' then
    return exists and 'there' or 'empty'
  end
  return 'unknown'
end
