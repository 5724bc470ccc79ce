--- @include entitlement_of exists grants index_entitlement index_grants is_visitor known_state
--- @include presence save_hash
--- @keys PREFERENCES SPONSORSHIP META SPONSORS MEMBERS

-- Saves facts of an entitlement; returns whether the person's collections have to travel now.
--
-- `is_verified`: local is known not to be older than durable. Otherwise a person who is new in the
-- index may have old sets; they stay out of it, so that pack.lua has both servers compared and
-- merge.lua decides.
-- `has_durable`: facts that are unknown on local are on durable. The new ones are then `partial`:
-- they do not travel until durable's grants are added.
local function save_facts(id, sponsorable, fields, is_verified, has_durable)
  local key, part = K.SPONSORSHIP(sponsorable, id), 'entitlement:' .. sponsorable
  local was_entitled, old_grants = entitlement_of(id, sponsorable), grants_of(id, sponsorable)
  if has_durable and known_state(id, K.META(id), part, key) == 'unknown' then
    redis.call('HSET', key, 'partial', '1')
  end
  save_hash(key, fields)
  index_grants(id, sponsorable, old_grants, grants_of(id, sponsorable))
  if exists(K.MEMBERS(sponsorable, id)) then
    mark_organization_changed(sponsorable, id)
  end
  if not is_verified and entitlement_of(id, sponsorable)
      and redis.call('SISMEMBER', K.SPONSORS(sponsorable), id) == 0 then
    return false
  end
  local is_new = index_entitlement(id, sponsorable)
  -- The index alone does not tell: it may still have an entitlement that ended a moment ago.
  local came_back = is_verified and not was_entitled and entitlement_of(id, sponsorable)
  return is_new or came_back
end

-- Adds to `changed` the collections that a newly entitled person has on local. Their new version
-- makes durable take them in place of an older copy.
local function add_collections(id, meta, collections, changed)
  for _, collection in ipairs(collections) do
    if not is_visitor(id)
        and presence(meta, collection, K.PREFERENCES(id, collection)) ~= 'unknown' then
      changed[#changed + 1] = collection
    end
  end
end
