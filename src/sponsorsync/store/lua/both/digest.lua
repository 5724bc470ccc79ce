-- Tells what one side holds of people, short enough to compare many: digests instead of contents.
--
-- ARGV  1 JSON {"sponsorables": [login], "collections": [name]}  2 … person ids
-- Replies  for each person, in order, {flags, version of the deletion, sponsorables by whom the
--          index `sponsors:` is not what the facts say (comma-separated), then for each part: name,
--          version, state, digest}; or {'', error}.
--          Flags: 'd' (is dirty), 'c' (is entitled), 'v' (a visitor has the number), '-' (none).
--          State: 'there', 'empty', 'unknown', or 'unnoted' (a key that nobody has versioned); with
--          '+' behind it where it is noted on local that durable holds a copy.
--          The digest does not depend on the order of members or fields. Sets of who is not entitled
--          have none: their copy need not be equal.
--          It stops early when it has read much: the caller asks again for the rest.
--- @include entitlement_of exists is_visitor evaluate_presence part_key part_type profile parse_meta
--- @include wrong_type
--- @keys META SPONSORS DIRTY

local MOST_VALUES = 20000 -- some milliseconds

local known_names = cjson.decode(ARGV[1])
local values = 0

-- Lengths go along, so that no member can pretend to be two.
local function digest_of(kind, data)
  local pieces = {}
  if kind == 'hash' then
    for i = 1, #data, 2 do
      pieces[#pieces + 1] = #data[i] .. ':' .. data[i] .. #data[i + 1] .. ':' .. data[i + 1]
    end
  else
    for i = 1, #data do
      pieces[i] = #data[i] .. ':' .. data[i]
    end
  end
  table.sort(pieces)
  return redis.sha1hex(table.concat(pieces))
end

-- Returns state and digest of one part.
local function look(notes, part, key, entitled)
  local kind, noted = part_type(part), notes['p:' .. part]
  if kind == 'set' and not entitled then
    local is_there = exists(key)
    return (is_there and not noted) and 'unnoted' or evaluate_presence(noted, is_there), ''
  end
  local data = exists(key) and redis.call(kind == 'hash' and 'HGETALL' or 'SMEMBERS', key) or {}
  values = values + #data
  if #data > 0 and not noted then
    return 'unnoted', ''
  end
  return evaluate_presence(noted, #data > 0), #data > 0 and digest_of(kind, data) or ''
end

local function describe(id)
  local meta = K.META(id)
  local wrong = wrong_type(meta, 'hash')
  if wrong then
    return { '', wrong }
  end
  local notes, parts = parse_meta(redis.call('HGETALL', meta))
  local visitor = is_visitor(id)
  local function expect(part)
    if not notes['v:' .. part] then
      parts[#parts + 1] = part
    end
  end
  expect(PROFILE)
  for _, sponsorable in ipairs(known_names.sponsorables) do
    expect('entitlement:' .. sponsorable)
  end
  for _, collection in ipairs(known_names.collections) do
    expect(collection)
  end
  for _, part in ipairs(parts) do
    if not (visitor and part_type(part) == 'set') then
      wrong = wrong or wrong_type(part_key(id, part), part_type(part))
    end
  end
  for _, sponsorable in ipairs(known_names.sponsorables) do
    wrong = wrong or wrong_type(K.SPONSORS(sponsorable), 'set')
  end
  if wrong then
    return { '', wrong }
  end

  local entitled, stale = false, {}
  for _, sponsorable in ipairs(known_names.sponsorables) do
    local is_now = entitlement_of(id, sponsorable) or false
    entitled = entitled or is_now
    if (redis.call('SISMEMBER', K.SPONSORS(sponsorable), id) == 1) ~= is_now then
      stale[#stale + 1] = sponsorable
    end
  end
  local flags = (redis.call('SISMEMBER', K.DIRTY, id) == 1 and 'd' or '')
    .. (entitled and 'c' or '') .. (visitor and 'v' or '')
  local row = { flags == '' and '-' or flags, notes.x or '0', table.concat(stale, ',') }
  for _, part in ipairs(parts) do
    if not (visitor and part_type(part) == 'set') then
      local state, digest = look(notes, part, part_key(id, part), entitled)
      row[#row + 1] = part
      row[#row + 1] = notes['v:' .. part] or '0'
      row[#row + 1] = state .. (notes['d:' .. part] and '+' or '')
      row[#row + 1] = digest
    end
  end
  return row
end

local rows = {}
for i = 2, #ARGV do
  rows[#rows + 1] = describe(ARGV[i])
  if values > MOST_VALUES then
    break
  end
end
return rows
