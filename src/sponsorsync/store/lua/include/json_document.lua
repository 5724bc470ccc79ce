--- @include exists parse_hash part_key parts_in sponsorable_of wrong_type
--- @keys USER_DETAILS META USER_DETAILS_JSON

-- Checks, once per script, whether the server has RedisJSON and whether our Redis user may use it.
local has_json, json_is_permitted
local function check_json(key)
  if has_json ~= nil then
    return
  end
  if redis.acl_check_cmd then
    -- Raises an error for an unknown command. It does not run JSON.SET, so the server's statistics
    -- show no failed command.
    has_json, json_is_permitted = pcall(redis.acl_check_cmd, 'JSON.SET', key, '.', '{}')
  else
    -- Redis 6 has no acl_check_cmd; its statistics do not count unknown commands.
    has_json = not string.find(redis.pcall('JSON.SET').err, 'Unknown', 1, true)
    json_is_permitted = has_json
  end
end

-- Returns a hash as an object for JSON; nil for a missing key or one of another type. The name of a
-- field decides whether its value is a number, since a login may be all digits. Numbers of more
-- than 14 digits stay texts: cjson would round them.
local function object_in(key)
  if not exists(key) or wrong_type(key, 'hash') then
    return nil
  end
  local is_number = {
    id = true, first_seen = true, last_login = true, tier_cents = true, since = true,
    valid_until = true, checked_at = true, unknown_since = true, also_until = true,
    memberships_checked_at = true, memberships_unknown_since = true,
  }
  local object = parse_hash(redis.call('HGETALL', key))
  for field, value in pairs(object) do
    if is_number[field] and #value <= 14 and string.find(value, '^%d+$') then
      object[field] = tonumber(value)
    elseif field == 'is_one_time' then
      object[field] = value == '1'
    elseif field == 'partial' then
      object[field] = nil -- internal
    elseif field == 'also' then
      local is_fine, grants = pcall(cjson.decode, value)
      object[field] = is_fine and grants or value
    end
  end
  return object
end

-- Updates the JSON document of a person from their hashes, if the server has RedisJSON. Each script
-- that writes or deletes one of these hashes calls it at the end. If the document cannot be written
-- (because a text is not UTF-8, for example), the old document is deleted, since it is outdated. A
-- wrong-type key in its place stays as it is. `is_in_step` says that the hashes have not changed:
-- then only a missing document is written.
local function derive_document(id, is_in_step)
  local key = K.USER_DETAILS_JSON(id)
  check_json(key)
  if not has_json or (is_in_step and exists(key)) then
    return
  end
  local document = json_is_permitted and object_in(K.USER_DETAILS(id))
  if document then
    document.sponsorships = {}
    for _, part in ipairs(parts_in(K.META(id))) do
      local sponsorable = sponsorable_of(part)
      if sponsorable then
        document.sponsorships[sponsorable] = object_in(part_key(id, part))
      end
    end
    if not redis.pcall('JSON.SET', key, '.', cjson.encode(document)).err then
      return
    end
  end
  if not wrong_type(key, 'ReJSON-RL') then
    redis.call('DEL', key)
  end
end
