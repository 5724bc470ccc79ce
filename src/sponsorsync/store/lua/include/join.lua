--- @include entitlement_of exists grants index_entitlement index_grants is_visitor known_state presence
--- @include save_hash
--- @keys PREFERENCES SPONSORSHIP META SPONSORS MEMBERS

-- Keeps what was learnt of an entitlement; returns whether the person brings along what is there.
-- Local may have come back older than the join, and with old sets: then it is judged once both
-- sides were compared (merge.lua), which the missing entry in the index asks for (pack.lua).
--
-- `has_durable`: what is unknown here stands on durable. Facts that are written all the same, since
-- that cannot be asked, are `partial`: they do not travel before durable's grants were added.
local function save_entitlement(id, sponsorable, fields, is_verified, has_durable)
  local key, part = K.SPONSORSHIP(sponsorable, id), 'entitlement:' .. sponsorable
  local was_entitled, had = entitlement_of(id, sponsorable), grants_of(id, sponsorable)
  if has_durable and known_state(id, K.META(id), part, key) == 'unknown' then
    redis.call('HSET', key, 'partial', '1')
  end
  save_hash(key, fields)
  index_grants(id, sponsorable, had, grants_of(id, sponsorable))
  if exists(K.MEMBERS(sponsorable, id)) then
    mark_organization_changed(sponsorable, id)
  end
  if not is_verified and entitlement_of(id, sponsorable)
      and redis.call('SISMEMBER', K.SPONSORS(sponsorable), id) == 0 then
    return false
  end
  local is_new = index_entitlement(id, sponsorable)
  -- Not by the index alone: an entitlement that ended a moment ago may still stand in it.
  local came_back = is_verified and not was_entitled and entitlement_of(id, sponsorable)
  return is_new or came_back
end

-- Whoever is entitled from now on brings along what is there: with a newer version, so that
-- durable, which may hold an older one, takes it. Adds to `changed` the collections that travel.
local function bring_along(id, meta, collections, changed)
  for _, collection in ipairs(collections) do
    if not is_visitor(id)
        and presence(meta, collection, K.PREFERENCES(id, collection)) ~= 'unknown' then
      changed[#changed + 1] = collection
    end
  end
end
