--- @include entitlement_of exists grants index_entitlement index_grants is_visitor known_state
--- @include presence save_hash
--- @keys PREFERENCES SPONSORSHIP META SPONSORS MEMBERS

-- Saves facts of an entitlement; returns whether the person is newly entitled, so that their
-- collections have to be pushed to durable now (add_collections).
--
-- `is_verified`: local is known not to be older than durable. Otherwise the sets of a newly
-- entitled person may be old. The person is then not added to the index of entitled people:
-- pack.lua sees that and asks for a fetch, and merge.lua takes the newer sets.
-- `has_durable`: durable may have the facts that are unknown on local. The new facts are then
-- marked `partial`: they are not pushed until merge.lua has added durable's grants.
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
  -- is_new is not enough: the index may still have a person whose entitlement has just ended.
  local came_back = is_verified and not was_entitled and entitlement_of(id, sponsorable)
  return is_new or came_back
end

-- Adds to `changed` the collections that are known on local, for a newly entitled person. Their new
-- version makes durable replace its older copies.
local function add_collections(id, meta, collections, changed)
  for _, collection in ipairs(collections) do
    if not is_visitor(id)
        and presence(meta, collection, K.PREFERENCES(id, collection)) ~= 'unknown' then
      changed[#changed + 1] = collection
    end
  end
end
