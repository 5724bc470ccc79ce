--- @include cover_of exists grants index_cover index_grants is_visitor known_state presence
--- @include save_hash
--- @keys PREFERENCES SPONSORSHIP META SPONSORS MEMBERS

-- Keeps what was learnt of a cover; returns whether the person brings along what is there. Local may
-- have come back older than the join, and with old sets: then it is judged once both sides were
-- compared (absorb.lua), which the missing entry in the index asks for (export.lua).
--
-- `has_durable`: what is unknown here stands on durable. Facts that are written all the same, since
-- that cannot be asked, are `partial`: they do not travel before durable's grants were added.
local function save_cover(id, sponsorable, fields, is_verified, has_durable)
  local key, part = K.SPONSORSHIP(sponsorable, id), 'cover:' .. sponsorable
  local was_covered, had = cover_of(id, sponsorable), grants_of(id, sponsorable)
  if has_durable and known_state(id, K.META(id), part, key) == 'unknown' then
    redis.call('HSET', key, 'partial', '1')
  end
  save_hash(key, fields)
  index_grants(id, sponsorable, had, grants_of(id, sponsorable))
  if exists(K.MEMBERS(sponsorable, id)) then
    note_organization(sponsorable, id)
  end
  if not is_verified and cover_of(id, sponsorable)
      and redis.call('SISMEMBER', K.SPONSORS(sponsorable), id) == 0 then
    return false
  end
  local is_new = index_cover(id, sponsorable)
  -- Not by the index alone: a cover that ended a moment ago may still stand in it.
  local came_back = is_verified and not was_covered and cover_of(id, sponsorable)
  return is_new or came_back
end

-- Whoever is covered from now on brings along what is there: with a newer version, so that durable,
-- which may hold an older one, takes it. Adds to `changed` the collections that travel.
local function bring_along(id, meta, collections, changed)
  for _, collection in ipairs(collections) do
    if not is_visitor(id)
        and presence(meta, collection, K.PREFERENCES(id, collection)) ~= 'unknown' then
      changed[#changed + 1] = collection
    end
  end
end
