-- A part travels as {name, version, data, about}: data is what the key holds as a flat list, or,
-- where the other server can read it, the key as DUMP gives it, a string. What has to be known of a
-- dump without unpacking it stands in `about`: the size of a set; what decides of an entitlement.
--- @include call_in_chunks part_type

-- Puts data in the place of whatever a key holds.
local function write_key(key, kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', key, 0, data, 'REPLACE')
    return
  end
  redis.call('DEL', key)
  call_in_chunks(kind == 'hash' and 'HSET' or 'SADD', key, data, 1, #data)
end

-- Adds to a list of fields for meta what is to be noted of a part that the other side has.
local function add_part_fields(fields, name, version, data, about)
  local at = #fields
  fields[at + 1], fields[at + 2] = 'v:' .. name, version
  fields[at + 3], fields[at + 4] = 'p:' .. name, #data > 0 and '1' or '0'
  if part_type(name) == 'set' then
    fields[at + 5], fields[at + 6] = 'n:' .. name, type(data) == 'string' and about or #data
  end
end
