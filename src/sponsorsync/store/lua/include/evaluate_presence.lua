-- Returns 'unknown', 'empty' or 'there' for a part, from its `p:` field and whether its key exists.
-- A recorded key that is missing was lost (evicted, deleted by hand, flushed): the part is unknown.
-- A key in the place of an empty part was written by the application: the part is there.
local function evaluate_presence(recorded, exists)
  if recorded == '1' then
    return exists and 'there' or 'unknown'
  elseif recorded == '0' then
    return exists and 'there' or 'empty'
  end
  return 'unknown'
end
