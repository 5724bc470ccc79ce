-- Returns 'unknown', 'empty' or 'there' for a part, from its field `p:` of meta ('1': our scripts
-- left a key, '0': they left none) and whether its key exists.
-- '1' without a key: the key was lost (evicted, deleted by hand, flushed), so the part is unknown.
-- '0' with a key: the application wrote the key, so the part is there.
local function evaluate_presence(recorded, exists)
  if recorded == '1' then
    return exists and 'there' or 'unknown'
  elseif recorded == '0' then
    return exists and 'there' or 'empty'
  end
  return 'unknown'
end
