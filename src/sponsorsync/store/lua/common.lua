-- Shared by all scripts; it stands in front of each of them, behind the names of the keys (K).
--
-- A change is one script: it checks every type before its first write, gives each part that it
-- changes a new version, notes the presence, and marks the person dirty. Keys are made here rather
-- than handed in as KEYS: a clustered server is refused at the start.

-- Lua can put some 8,000 values on its stack at once; more in one unpack is an error.
local CHUNK = 1000
local PROFILE = 'profile'

-- ------------------------------------------------------------------ time, types, chunks

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Asked once: a script is one moment.
local moment_s
local function now_s()
  moment_s = moment_s or tonumber(redis.call('TIME')[1])
  return moment_s
end

-- Whether a key is there. EXISTS, TYPE and every command that reads would tell the listeners of key
-- misses (that is us) when it is not; OBJECT does not.
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end

-- Returns the sentence to refuse with when a key holds another type, else nil.
local function wrong_type(key, wanted)
  local found = exists(key) and redis.call('TYPE', key).ok or wanted
  if found ~= wanted then
    return 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. wanted
  end
end

-- Calls a variadic command with values[first..last], in chunks; returns the sum of the replies.
local function call_in_chunks(command, key, values, first, last)
  local sum = 0
  for from = first, last, CHUNK do
    sum = sum + redis.call(command, key, unpack(values, from, math.min(from + CHUNK - 1, last)))
  end
  return sum
end

-- The members of a set; none where it is missing.
local function members_of(set)
  return exists(set) and redis.call('SMEMBERS', set) or {}
end

local function size_of(set)
  return exists(set) and redis.call('SCARD', set) or 0
end

-- Calls found(i, 1 or 0) for each values[i] of first..last: does it stand in the set?
local function look_up(set, values, first, last, found)
  local is_there = exists(set)
  for from = first, last, CHUNK do
    local to = math.min(from + CHUNK - 1, last)
    local bits = is_there and redis.call('SMISMEMBER', set, unpack(values, from, to)) or {}
    for i = from, to do
      found(i, bits[i - from + 1] or 0)
    end
  end
end

-- ------------------------------------------------------------------ parts

-- The sponsorable of a part `cover:{sponsorable}`, or false; asked once of each.
local known_sponsorables = {}
local function sponsorable_of(part)
  local found = known_sponsorables[part]
  if found == nil then
    found = string.match(part, '^cover:(.+)$') or false
    known_sponsorables[part] = found
  end
  return found
end

local function part_key(id, part)
  if part == PROFILE then
    return K.USER_DETAILS(id)
  end
  local sponsorable = sponsorable_of(part)
  if sponsorable then
    return K.SPONSORSHIP(sponsorable, id)
  end
  return K.PREFERENCES(id, part)
end

local type_of = {}
local function part_type(part)
  type_of[part] = type_of[part] or ((part == PROFILE or sponsorable_of(part)) and 'hash' or 'set')
  return type_of[part]
end

-- The fields of a meta, which redis replies as a flat list, as a table. For scripts that handle many
-- people: one call instead of several a part.
local function notes_in(flat)
  local notes = {}
  for i = 1, #flat, 2 do
    notes[flat[i]] = flat[i + 1]
  end
  return notes
end

-- The same, the names of the parts that there is a version of, and whether durable may hold a copy of
-- one ('d:'). The fields are the same for most people, so each is taken apart once a script.
local taken_apart = {}
local function read_notes(flat)
  local notes, parts, holds_copy = {}, {}, false
  for i = 1, #flat, 2 do
    local field = flat[i]
    notes[field] = flat[i + 1]
    local found = taken_apart[field]
    if not found then
      found = { string.match(field, '^([vd]):(.+)$') }
      taken_apart[field] = found
    end
    if found[1] == 'v' then
      parts[#parts + 1] = found[2]
    elseif found[1] then
      holds_copy = true
    end
  end
  return notes, parts, holds_copy
end

-- The names of the parts that meta has a version of.
local function parts_in(meta)
  local parts = {}
  for _, field in ipairs(redis.call('HKEYS', meta)) do
    local part = string.match(field, '^v:(.+)$')
    if part then
      parts[#parts + 1] = part
    end
  end
  return parts
end

-- Whether the number belongs to an anonymous visitor of the application: its sets are theirs.
local function is_visitor(id)
  return exists(K.VISITOR(id)) and redis.call('TYPE', K.VISITOR(id)).ok == 'hash'
end

-- ------------------------------------------------------------------ versions

-- A version is later than every other that this server gave, also when the clock went back.
-- Versions go through '%.0f', since tostring() would say 1.79e+15.
local function next_version()
  local last = redis.call('ZREVRANGE', K.PEOPLE, 0, 0, 'WITHSCORES')[2]
  return string.format('%.0f', math.max((tonumber(last) or 0) + 1, now_us()))
end

local function version_of(meta, part)
  return tonumber(redis.call('HGET', meta, 'v:' .. part) or '0')
end

-- A text that stands for all versions of a person and for every reason to travel since (a change that
-- waits and a cover that ended raise no version). It sorts the names of the parts.
local function stamp_of(notes, parts)
  table.sort(parts)
  local stamp = { (notes.x or '0') .. '/' .. (notes.m or '0') }
  for i, part in ipairs(parts) do
    stamp[i + 1] = part .. '=' .. notes['v:' .. part]
  end
  return table.concat(stamp, ' ')
end

-- On local: notes a version of some part in the index of people, which keeps the greatest.
local function note_person(id, version)
  local known = tonumber(redis.call('ZSCORE', K.PEOPLE, id) or '0')
  if tonumber(version) > known then
    redis.call('ZADD', K.PEOPLE, version, id)
  end
end

-- ------------------------------------------------------------------ presence

-- 'unknown', 'empty' or 'there'. A part that was there and whose key is missing was lost (evicted,
-- deleted by hand, flushed), which nobody did on purpose: it is unknown again. A key that appeared
-- in an empty part was written past the service, and is there.
local function judge_presence(noted, exists)
  if noted == '1' then
    return exists and 'there' or 'unknown'
  elseif noted == '0' then
    return exists and 'there' or 'empty'
  end
  return 'unknown'
end

local function presence(meta, part, key)
  return judge_presence(redis.call('HGET', meta, 'p:' .. part), exists(key))
end

local function note_presence(meta, part, key)
  redis.call('HSET', meta, 'p:' .. part, exists(key) and '1' or '0')
  if part_type(part) == 'set' then
    -- So that a change past the service can be told from ours (mark_foreign.lua).
    redis.call('HSET', meta, 'n:' .. part, size_of(key))
  end
end

local function has_pending(id, part)
  for _, field in ipairs(redis.call('HKEYS', K.PENDING(id))) do
    if string.sub(field, 1, #part + 1) == part .. '\n' then
      return true
    end
  end
  return false
end

-- What a reader or writer on local may take for granted. Changes that wait for durable make a part
-- unknown; durable's word that it has nothing makes an unknown part what local has.
local function known_state(id, meta, part, key)
  if has_pending(id, part) then
    return 'unknown'
  end
  local state = presence(meta, part, key)
  if state == 'unknown' and redis.call('SISMEMBER', K.NEGATIVE(id), part) == 1 then
    return exists(key) and 'there' or 'empty'
  end
  return state
end

-- What was judged on a part names its version; with a '?' where it was unknown, so that what somebody
-- else has fetched meanwhile, which may be of the same version, is not overwritten unread.
local function version_to_name(id, meta, part, key)
  local version = redis.call('HGET', meta, 'v:' .. part) or '0'
  return known_state(id, meta, part, key) == 'unknown' and version .. '?' or version
end

-- A part travels as {name, version, data, about}: data is what the key holds as a flat list, or, where
-- the other server can read it, the key as DUMP gives it, a string. What has to be known of a dump
-- without unpacking it stands in `about`: the size of a set; what decides of a cover.

-- Calls a function that writes sets: whoever captures foreign writes (gears_scripts/write_behind.py)
-- looks away meanwhile.
local function quietly(write)
  redis.call('SET', K.QUIET, '1', 'PX', QUIET_TTL_MS)
  local is_fine, reply = pcall(write)
  redis.call('DEL', K.QUIET)
  if not is_fine then
    error(reply)
  end
  return reply
end

-- Puts data in the place of whatever a key holds.
local function write_key(key, kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', key, 0, data, 'REPLACE')
    return
  end
  redis.call('DEL', key)
  call_in_chunks(kind == 'hash' and 'HSET' or 'SADD', key, data, 1, #data)
end

-- Returns data as a flat list.
local function unpacked(kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', K.UNPACKED, 0, data, 'REPLACE')
    data = redis.call(kind == 'hash' and 'HGETALL' or 'SMEMBERS', K.UNPACKED)
    redis.call('DEL', K.UNPACKED)
  end
  return data
end

-- Adds to a list of fields for meta what is to be noted of a part that the other side has.
local function note_part(fields, name, version, data, about)
  local at = #fields
  fields[at + 1], fields[at + 2] = 'v:' .. name, version
  fields[at + 3], fields[at + 4] = 'p:' .. name, #data > 0 and '1' or '0'
  if part_type(name) == 'set' then
    fields[at + 5], fields[at + 6] = 'n:' .. name, type(data) == 'string' and about or #data
  end
end

-- ------------------------------------------------------------------ the JSON document

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

-- A hash as JSON has it; nil where there is none. The type goes by the name of the field: a login may
-- be all digits. Of more than 14 of them cjson writes the first 14, so such a text stays one.
local function object_in(key)
  if not exists(key) or wrong_type(key, 'hash') then
    return nil
  end
  local is_number = {
    id = true, first_seen = true, last_login = true, tier_cents = true, since = true,
    valid_until = true, checked_at = true, unknown_since = true, also_until = true,
    memberships_checked_at = true, memberships_unknown_since = true,
  }
  local object = notes_in(redis.call('HGETALL', key))
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
-- written (a text that is not UTF-8, say) there is none, rather than an older one, and a foreign key
-- under its name is left alone. `is_in_step`: the hashes are as they were, so only a document that is
-- missing has to be made.
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

-- ------------------------------------------------------------------ deletion

-- An account that was deleted takes with it every part that was not made anew since.
local function delete_up_to(id, meta, deleted)
  if tonumber(deleted) <= tonumber(redis.call('HGET', meta, 'x') or '0') then
    return
  end
  for _, part in ipairs(parts_in(meta)) do
    local version = version_of(meta, part)
    -- 0: written past the service, and not united with durable yet, so after what durable tells.
    if version > 0 and version <= tonumber(deleted) then
      if not wrong_type(part_key(id, part), part_type(part)) then
        redis.call('DEL', part_key(id, part))
      end
      redis.call('HDEL', meta, 'v:' .. part, 'p:' .. part, 'n:' .. part, 'd:' .. part)
    end
  end
  redis.call('HSET', meta, 'x', deleted)
end

-- Asks for the right to fetch this person from durable; returns who has it.
local function take_lease(id, token)
  redis.call('SET', K.LEASE(id), token, 'NX', 'PX', LEASE_TTL_MS)
  return redis.call('GET', K.LEASE(id))
end

-- ------------------------------------------------------------------ dirty

-- Dirty is the truth, the outbox only wakes: one entry for each person, however many changes. A
-- fetch that is under way has read what is no longer so, and a package that is under way has not all
-- that there is: `m` counts the marks, so that its confirmation is not taken for one of this.
local function mark_dirty(id)
  redis.call('DEL', K.LEASE(id), K.NEGATIVE(id))
  redis.pcall('HINCRBY', K.META(id), 'm', 1) -- a foreign meta is named by export.lua
  if redis.call('SADD', K.DIRTY, id) == 1 then
    redis.call('XADD', K.OUTBOX, '*', 'u', id)
  end
end

-- Brings the fields of a hash to what is told; null stands for no field.
local function save_hash(key, fields)
  for field, value in pairs(fields) do
    if value == cjson.null then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, value)
    end
  end
end

-- Ends a change of some parts: one new version for all of them. It is later than theirs also where
-- those are not in the index of people: a capture inside Redis (write_behind.py) leaves it alone.
local function commit(id, meta, parts)
  local latest, fields = 0, {}
  for i, part in ipairs(parts) do
    fields[i] = 'v:' .. part
  end
  for _, version in ipairs(redis.call('HMGET', meta, unpack(fields))) do
    latest = math.max(latest, tonumber(version or '0'))
  end
  local version = string.format('%.0f', math.max(tonumber(next_version()), latest + 1))
  for _, part in ipairs(parts) do
    redis.call('HSET', meta, 'v:' .. part, version)
    note_presence(meta, part, part_key(id, part))
  end
  note_person(id, version)
  mark_dirty(id)
end

-- Returns the first sentence to refuse a change with, else nil. `sponsorables` (or nil) are those
-- whose index the change may touch.
local function wrong_service_type(sponsorables)
  local wrong = wrong_type(K.DIRTY, 'set') or wrong_type(K.OUTBOX, 'stream')
    or wrong_type(K.PEOPLE, 'zset') or wrong_type(K.COVER_ENDS, 'zset')
  for _, sponsorable in ipairs(sponsorables or {}) do
    wrong = wrong or wrong_type(K.SPONSORS(sponsorable), 'set')
  end
  return wrong
end

-- Returns the first sentence to refuse one person with, else nil: what is known of their covers, and
-- these themselves, lies in their own keys.
local function wrong_person_type(id, sponsorables)
  local wrong = wrong_type(K.META(id), 'hash') or wrong_type(K.PENDING(id), 'hash')
    or wrong_type(K.NEGATIVE(id), 'set')
  for _, sponsorable in ipairs(sponsorables) do
    wrong = wrong or wrong_type(K.SPONSORSHIP(sponsorable, id), 'hash')
  end
  return wrong
end

-- Returns what a function reads of one person. It checks no type beforehand, since that would cost
-- each reader something; where it meets a foreign key, the error tells which.
local function read_person(id, sponsorables, read)
  local is_fine, reply = pcall(read)
  if is_fine then
    return reply
  end
  local wrong = wrong_person_type(id, sponsorables) or wrong_type(K.USER_DETAILS(id), 'hash')
  if wrong then
    return redis.error_reply(wrong)
  end
  error(reply)
end

-- ------------------------------------------------------------------ cover

-- The fields of a cover that decide: those of the person's own sponsorship at GitHub, and until when
-- anything else covers them ('never': that has no end). `partial` is behind them (save_cover).
local DECISIVE = { 'source', 'valid_until', 'also_until', 'partial' }

-- Whether these facts amount to cover at this moment, and when that ends (or ended).
local function judge_cover(source, valid_until, also_until)
  local own, also = tonumber(valid_until or ''), tonumber(also_until or '')
  local is_sponsor = source and source ~= 'none'
  if (is_sponsor and not own) or also_until == 'never' then
    return true, nil
  end
  local ends = math.max(is_sponsor and own or 0, also or 0)
  return ends > now_s(), ends > 0 and ends or nil
end

-- A foreign key in the place of the facts covers nobody; export.lua names it.
local function cover_of(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE))
  if facts.err then
    return false
  end
  return judge_cover(unpack(facts))
end

-- The grants of a cover, by what else than their own sponsorship somebody is covered, as a table; what
-- somebody else wrote in their place is none.
local function grants_in(also)
  local is_fine, told = pcall(cjson.decode, type(also) == 'string' and also or '[]')
  local grants = {}
  for _, grant in ipairs(is_fine and type(told) == 'table' and told or {}) do
    if type(grant) == 'table' then
      grants[#grants + 1] = grant
    end
  end
  return grants
end

local function grants_of(id, sponsorable)
  return grants_in(redis.pcall('HGET', K.SPONSORSHIP(sponsorable, id), 'also'))
end

local function holds_seat(grant)
  return grant.organization_id and grant.member_until and grant.has_seat ~= false
end

local function members_index(sponsorable, grant)
  return K.MEMBERS(sponsorable, string.format('%.0f', grant.organization_id))
end

-- Those who belong to an organization are judged again (members.py), or one of them alone. The note's
-- value never comes back: who has judged them removes the note that they read, and no later one.
local function note_organization(sponsorable, id, member)
  local field = sponsorable .. ':' .. id .. (member and ':' .. member or '')
  redis.pcall('HSET', K.ORGANIZATIONS, field, next_version())
end

-- Brings the indexes of organizations' members, and of patrons, from the grants that one person had to
-- those that they have. Whoever is new among an organization's members is judged again (members.py):
-- it may have changed since their grant was made, when nobody knew that it is about them.
local function index_grants(id, sponsorable, had, grants)
  local patrons, was_member = K.PATRONS(sponsorable), {}
  for _, grant in ipairs(had) do
    if grant.patron_id and redis.pcall('HGET', patrons, grant.patron_id) == id then
      redis.pcall('HDEL', patrons, grant.patron_id)
    end
    if holds_seat(grant) then
      was_member[grant.organization_id] = true
      redis.pcall('ZREM', members_index(sponsorable, grant), id)
    end
  end
  for _, grant in ipairs(grants) do
    if grant.patron_id then
      redis.pcall('HSET', patrons, grant.patron_id, id)
    end
    if holds_seat(grant) then
      local until_s = string.format('%.0f', grant.member_until)
      redis.pcall('ZADD', members_index(sponsorable, grant), until_s, id)
      if not was_member[grant.organization_id] then
        note_organization(sponsorable, string.format('%.0f', grant.organization_id), id)
      end
    end
  end
end

local function is_covered(id, sponsorables)
  for _, sponsorable in ipairs(sponsorables) do
    if cover_of(id, sponsorable) then
      return true
    end
  end
  return false
end

-- The next moment at which something that covers somebody ends; nil if nothing does.
local function next_end_of(id, sponsorable)
  local source, own = unpack(redis.call('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE)))
  local found
  local function consider(ends)
    if ends and ends > now_s() and (not found or ends < found) then
      found = ends
    end
  end
  consider(source ~= 'none' and tonumber(own or ''))
  for _, grant in ipairs(grants_of(id, sponsorable)) do
    consider(grant.has_seat ~= false and tonumber(grant['until'] or ''))
  end
  return found
end

-- Brings the index of the covered, and the calendar of ends, to what the facts say; returns whether
-- the person has joined just now, whether they are covered, and when that ends (or ended).
local function index_cover(id, sponsorable)
  local covered, ends = cover_of(id, sponsorable)
  local member, next_end = sponsorable .. ':' .. id, covered and next_end_of(id, sponsorable)
  if next_end then
    redis.call('ZADD', K.COVER_ENDS, next_end, member)
  else
    redis.call('ZREM', K.COVER_ENDS, member)
  end
  if covered then
    return redis.call('SADD', K.SPONSORS(sponsorable), id) == 1, covered, ends
  end
  redis.call('SREM', K.SPONSORS(sponsorable), id)
  return false, covered, ends
end

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

-- ------------------------------------------------------------------ audit

-- What the audit trail tells of a cover: whether it holds, and its facts as text. `is_indexed`: the
-- index of who is covered says so, too; of a cover that ended a moment ago only that is left.
local AUDITED = { 'source', 'tier_cents', 'is_one_time', 'privacy', 'since', 'valid_until', 'also' }
local function cover_for_audit(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(AUDITED))
  local told = {}
  for i, field in ipairs(facts.err and {} or AUDITED) do
    if facts[i] then
      told[#told + 1] = '"' .. field .. '":' .. cjson.encode(facts[i])
    end
  end
  return {
    holds = cover_of(id, sponsorable) or false,
    is_indexed = redis.pcall('SISMEMBER', K.SPONSORS(sponsorable), id) == 1,
    text = '{' .. table.concat(told, ',') .. '}',
  }
end

-- Notes a grant, a change or a loss of cover; nothing where there was none and is none, or all stayed
-- as it was. `before` is what cover_for_audit told ahead of the change; `by` and `reference` say by
-- what it came. `has_changed`: also where the facts are the same, since some of them are over.
local function audit_cover(id, sponsorable, before, by, reference, has_changed)
  local after = cover_for_audit(id, sponsorable)
  local what
  if after.holds then
    what = not before.holds and 'granted'
      or (has_changed or before.text ~= after.text) and 'changed'
  else
    what = (before.holds or before.is_indexed) and 'lost'
  end
  if what then
    -- Whoever writes covers has checked the type; a sweep goes on without the trail.
    redis.pcall(
      'XADD', K.AUDIT, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'id', id, 'sponsorable', sponsorable,
      'what', what, 'by', by, 'reference', reference, 'before', before.text, 'after', after.text
    )
  end
end
