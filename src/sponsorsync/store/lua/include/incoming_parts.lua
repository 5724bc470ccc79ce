-- A person record has each part as {name, version, data, summary}. Data is the contents of the key
-- as a flat list, or its DUMP as a string if the other server can read that. The summary has the
-- values of a dump that are needed without restoring it: the size of a set, or the fields DECISIVE
-- (evaluate_entitlement.lua) of an entitlement.
--- @include call_in_chunks part_key part_type parts_in version_of wrong_type

-- Applies the deletion of an account, whose version is `deleted`: deletes all parts that were not
-- written after the deletion.
local function delete_up_to(id, meta, deleted)
  if tonumber(deleted) <= tonumber(redis.call('HGET', meta, 'x') or '0') then
    return
  end
  for _, part in ipairs(parts_in(meta)) do
    local version = version_of(meta, part)
    -- Version 0 is a write of the application that was not merged with durable yet. It stays: it
    -- may be later than the deletion.
    if version > 0 and version <= tonumber(deleted) then
      if not wrong_type(part_key(id, part), part_type(part)) then
        redis.call('DEL', part_key(id, part))
      end
      redis.call('HDEL', meta, 'v:' .. part, 'p:' .. part, 'n:' .. part, 'd:' .. part)
    end
  end
  redis.call('HSET', meta, 'x', deleted)
end

-- Replaces the contents of a key by a part's data.
local function write_key(key, kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', key, 0, data, 'REPLACE')
    return
  end
  redis.call('DEL', key)
  call_in_chunks(kind == 'hash' and 'HSET' or 'SADD', key, data, 1, #data)
end

-- Appends the fields of meta for a received part, and their values, to the list `fields`.
local function add_part_fields(fields, name, version, data, summary)
  local at = #fields
  fields[at + 1], fields[at + 2] = 'v:' .. name, version
  fields[at + 3], fields[at + 4] = 'p:' .. name, #data > 0 and '1' or '0'
  if part_type(name) == 'set' then
    fields[at + 5], fields[at + 6] = 'n:' .. name, type(data) == 'string' and summary or #data
  end
end
