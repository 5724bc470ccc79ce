-- Returns the versions and digests of people's parts on one server. Comparing those of both servers
-- takes less than comparing the contents.
--
-- ARGV  1 JSON {"sponsorables": [login], "collections": [name]}  2 … person ids
-- Replies  for each person, in order, {flags, version of the account's deletion, sponsorables for
--          which the index `sponsors:` differs from the facts (comma-separated), then for each
--          part: name, version, state, digest}; or {'', error}. Stops early after much data: the
--          caller asks again for the rest.
--          Flags: 'd' (dirty), 'c' (entitled), 'v' (an anonymous visitor of the application has the
--          same number), '-' (no flag).
--          State: 'there', 'empty', 'unknown', or 'unnoted' (a key whose presence is not recorded);
--          followed by '+' if local has recorded that durable may hold a copy.
--          The digest does not depend on the order of members or fields. The sets of a person who
--          is not entitled have no digest: the copies on the two servers may differ.
--- @include entitlement_of exists is_visitor evaluate_presence part_key part_type profile
--- @include parse_meta wrong_type
--- @keys META SPONSORS DIRTY

local MOST_VALUES = 20000 -- reading them takes some milliseconds

local catalog = cjson.decode(ARGV[1])
local values_read = 0

-- Includes the lengths of all texts, so that no two different contents give the same text.
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
local function digest_part(fields, part, key, entitled)
  local kind, recorded = part_type(part), fields['p:' .. part]
  if kind == 'set' and not entitled then
    local is_there = exists(key)
    return (is_there and not recorded) and 'unnoted' or evaluate_presence(recorded, is_there), ''
  end
  local data = exists(key) and redis.call(kind == 'hash' and 'HGETALL' or 'SMEMBERS', key) or {}
  values_read = values_read + #data
  if #data > 0 and not recorded then
    return 'unnoted', ''
  end
  return evaluate_presence(recorded, #data > 0), #data > 0 and digest_of(kind, data) or ''
end

local function digest_person(id)
  local meta = K.META(id)
  local wrong = wrong_type(meta, 'hash')
  if wrong then
    return { '', wrong }
  end
  local fields, parts = parse_meta(redis.call('HGETALL', meta))
  local visitor = is_visitor(id)
  local function add_part(part)
    if not fields['v:' .. part] then
      parts[#parts + 1] = part
    end
  end
  add_part(PROFILE)
  for _, sponsorable in ipairs(catalog.sponsorables) do
    add_part('entitlement:' .. sponsorable)
  end
  for _, collection in ipairs(catalog.collections) do
    add_part(collection)
  end
  for _, part in ipairs(parts) do
    if not (visitor and part_type(part) == 'set') then
      wrong = wrong or wrong_type(part_key(id, part), part_type(part))
    end
  end
  for _, sponsorable in ipairs(catalog.sponsorables) do
    wrong = wrong or wrong_type(K.SPONSORS(sponsorable), 'set')
  end
  if wrong then
    return { '', wrong }
  end

  local entitled, stale = false, {}
  for _, sponsorable in ipairs(catalog.sponsorables) do
    local is_now = entitlement_of(id, sponsorable) or false
    entitled = entitled or is_now
    if (redis.call('SISMEMBER', K.SPONSORS(sponsorable), id) == 1) ~= is_now then
      stale[#stale + 1] = sponsorable
    end
  end
  local flags = (redis.call('SISMEMBER', K.DIRTY, id) == 1 and 'd' or '')
    .. (entitled and 'c' or '') .. (visitor and 'v' or '')
  local row = { flags == '' and '-' or flags, fields.x or '0', table.concat(stale, ',') }
  for _, part in ipairs(parts) do
    if not (visitor and part_type(part) == 'set') then
      local state, digest = digest_part(fields, part, part_key(id, part), entitled)
      row[#row + 1] = part
      row[#row + 1] = fields['v:' .. part] or '0'
      row[#row + 1] = state .. (fields['d:' .. part] and '+' or '')
      row[#row + 1] = digest
    end
  end
  return row
end

local rows = {}
for i = 2, #ARGV do
  rows[#rows + 1] = digest_person(ARGV[i])
  if values_read > MOST_VALUES then
    break
  end
end
return rows
