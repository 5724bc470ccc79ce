--- @include profile sponsorable_of
--- @keys USER_DETAILS PREFERENCES SPONSORSHIP

local function part_key(id, part)
  if part == PROFILE then
    return K.USER_DETAILS(id)
  end
  local sponsorable = sponsorable_of(part)
  if sponsorable then
    return K.SPONSORSHIP(sponsorable, id)
  end
  return K.PREFERENCES(id, part)
end
