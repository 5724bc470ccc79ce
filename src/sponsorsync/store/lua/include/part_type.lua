--- @include profile sponsorable_of

local type_of = {}
local function part_type(part)
  type_of[part] = type_of[part] or ((part == PROFILE or sponsorable_of(part)) and 'hash' or 'set')
  return type_of[part]
end
