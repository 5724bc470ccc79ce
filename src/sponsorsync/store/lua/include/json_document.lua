--- @include exists parse_hash part_key parts_in sponsorable_of wrong_type
--- @keys USER_DETAILS META USER_DETAILS_JSON

-- Asked once a script: whether this server has RedisJSON, and whether its user may write with it.
local json_is_known, json_is_permitted
local function ask_for_json(key)
  if json_is_known ~= nil then
    return
  end
  if redis.acl_check_cmd then
    -- An error where there is no such command. Nothing is run for it, counted or logged.
    json_is_known, json_is_permitted = pcall(redis.acl_check_cmd, 'JSON.SET', key, '.', '{}')
  else
    -- Redis 6, which counts no command that it does not know.
    json_is_known = not string.find(redis.pcall('JSON.SET').err, 'Unknown', 1, true)
    json_is_permitted = json_is_known
  end
end

-- A hash as JSON has it; nil where there is none. The type goes by the name of the field: a login
-- may be all digits. Of more than 14 of them cjson writes the first 14, so such a text stays one.
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
      object[field] = nil -- the engine's own
    elseif field == 'also' then
      local is_fine, grants = pcall(cjson.decode, value)
      object[field] = is_fine and grants or value
    end
  end
  return object
end

-- Brings the document of a person, where there is RedisJSON, to what their hashes say; each script
-- that writes or removes one of these ends with it. The document is only a copy: where it cannot be
-- written (a text that is not UTF-8, say) there is none, rather than an older one, and a wrong-type
-- key under its name is left alone. `is_in_step`: the hashes are as they were, so only a document
-- that is missing has to be made.
local function derive_document(id, is_in_step)
  local key = K.USER_DETAILS_JSON(id)
  ask_for_json(key)
  if not json_is_known or (is_in_step and exists(key)) then
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
