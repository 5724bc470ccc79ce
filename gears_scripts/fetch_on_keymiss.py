"""Registers what answers a read of a collection that is not there: with what durable has.

The first SMEMBERS, SISMEMBER, SMISMEMBER or SCARD of a collection that was evicted, flushed or never
fetched gets the answer, and so does whoever comes after it. A collection that is known to be empty is
answered as empty without a fetch; one that a removal emptied stays so. The person's profile and cover
come back along with it. While durable is down the reader gets an error at once, and nothing is
remembered of it. Collections of the application's anonymous visitors are left alone.

A command that is answered so must not stand in a MULTI: RedisGears 1.2.9 ends the whole server when
two do, or when one does and somebody else sends another of these commands before its EXEC. Where the
application reads collections in transactions, "hook_collections": False in CONFIG lets the first
read go by unanswered, as it is on a plain Redis.

With "hook_profiles" in CONFIG also HGETALL, HGET and HMGET of profiles are answered; only for readers
that speak RESP2, since a hooked command answers in RESP2 in any case.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT gears_scripts/fetch_on_keymiss.py \
        REQUIREMENTS $(cat gears_scripts/requirements.txt)

It replies OK. `sponsorsync deploy-gears` does the same, and replaces an older one.
"""

import binascii
import hashlib
import json
import os
import re
import time

import redis

CONFIG = {}

# <shared: local durable fetch; lua: read_preferences load_account export absorb release_lease>
# From gears_scripts/shared/ and the service's own store; `make gears-scripts` writes it.

USER_DETAILS = "user_details:{id}"
PREFERENCES = "user:{id}:{collection}"
SPONSORS = "sponsors:{sponsorable}"
EPOCH = "sponsorsync:epoch"
PEOPLE_A_SCRIPT = 50

LUA = {
    "read_preferences": r"""
local LEASE_TTL_MS = 10000
local K = {}
function K.PREFERENCES(id, collection) return 'user:' .. id .. ':' .. collection end
function K.META(id) return 'sponsorsync:meta:' .. id end
function K.VISITOR(id) return 'user:' .. id end
function K.LEASE(id) return 'sponsorsync:lease:' .. id end
function K.NEGATIVE(id) return 'sponsorsync:negative:' .. id end
function K.PENDING(id) return 'sponsorsync:pending:' .. id end
local CHUNK = 1000
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end
local function wrong_type(key, wanted)
  local found = exists(key) and redis.call('TYPE', key).ok or wanted
  if found ~= wanted then
    return 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. wanted
  end
end
local function members_of(set)
  return exists(set) and redis.call('SMEMBERS', set) or {}
end
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
local function is_visitor(id)
  return exists(K.VISITOR(id)) and redis.call('TYPE', K.VISITOR(id)).ok == 'hash'
end
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
local function has_pending(id, part)
  for _, field in ipairs(redis.call('HKEYS', K.PENDING(id))) do
    if string.sub(field, 1, #part + 1) == part .. '\n' then
      return true
    end
  end
  return false
end
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
local function take_lease(id, token)
  redis.call('SET', K.LEASE(id), token, 'NX', 'PX', LEASE_TTL_MS)
  return redis.call('GET', K.LEASE(id))
end
local id, collection, token = ARGV[1], ARGV[2], ARGV[3]
local set, meta = K.PREFERENCES(id, collection), K.META(id)
if is_visitor(id) then
  return { 'visitor' }
end
local wrong = wrong_type(set, 'set') or wrong_type(meta, 'hash')
if wrong then
  return redis.error_reply(wrong)
end
local state = known_state(id, meta, collection, set)
if state == 'unknown' and token ~= '' then
  return { 'ask', take_lease(id, token) }
end
if ARGV[4] == 'list' then
  return { state, members_of(set) }
end
local bits = {}
look_up(set, ARGV, 5, #ARGV, function(_, is_member)
  bits[#bits + 1] = is_member
end)
return { state, table.concat(bits) }
""",
    "load_account": r"""
local LEASE_TTL_MS = 10000
local K = {}
function K.USER_DETAILS(id) return 'user_details:' .. id end
function K.PREFERENCES(id, collection) return 'user:' .. id .. ':' .. collection end
function K.SPONSORSHIP(sponsorable, id) return 'sponsorship:' .. sponsorable .. ':' .. id end
function K.META(id) return 'sponsorsync:meta:' .. id end
function K.LEASE(id) return 'sponsorsync:lease:' .. id end
function K.NEGATIVE(id) return 'sponsorsync:negative:' .. id end
function K.PENDING(id) return 'sponsorsync:pending:' .. id end
local PROFILE = 'profile'
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end
local function wrong_type(key, wanted)
  local found = exists(key) and redis.call('TYPE', key).ok or wanted
  if found ~= wanted then
    return 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. wanted
  end
end
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
local function has_pending(id, part)
  for _, field in ipairs(redis.call('HKEYS', K.PENDING(id))) do
    if string.sub(field, 1, #part + 1) == part .. '\n' then
      return true
    end
  end
  return false
end
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
local function version_to_name(id, meta, part, key)
  local version = redis.call('HGET', meta, 'v:' .. part) or '0'
  return known_state(id, meta, part, key) == 'unknown' and version .. '?' or version
end
local function take_lease(id, token)
  redis.call('SET', K.LEASE(id), token, 'NX', 'PX', LEASE_TTL_MS)
  return redis.call('GET', K.LEASE(id))
end
local function wrong_person_type(id, sponsorables)
  local wrong = wrong_type(K.META(id), 'hash') or wrong_type(K.PENDING(id), 'hash')
    or wrong_type(K.NEGATIVE(id), 'set')
  for _, sponsorable in ipairs(sponsorables) do
    wrong = wrong or wrong_type(K.SPONSORSHIP(sponsorable, id), 'hash')
  end
  return wrong
end
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
local id, token = ARGV[1], ARGV[2]
local meta = K.META(id)
return read_person(id, { unpack(ARGV, 3) }, function()
  local answer, known = { 'ok' }, true
  local function read(part)
    local key = part_key(id, part)
    known = known and known_state(id, meta, part, key) ~= 'unknown'
    answer[#answer + 1] = exists(key) and redis.call('HGETALL', key) or {}
  end
  read(PROFILE)
  for i = 3, #ARGV do
    local part = 'cover:' .. ARGV[i]
    answer[#answer + 1] = version_to_name(id, meta, part, part_key(id, part))
    read(part)
  end
  if not known and token ~= '' then
    return { 'ask', take_lease(id, token) }
  end
  return answer
end)
""",
    "export": r"""
local K = {}
function K.USER_DETAILS(id) return 'user_details:' .. id end
function K.PREFERENCES(id, collection) return 'user:' .. id .. ':' .. collection end
function K.SPONSORSHIP(sponsorable, id) return 'sponsorship:' .. sponsorable .. ':' .. id end
function K.META(id) return 'sponsorsync:meta:' .. id end
function K.SPONSORS(sponsorable) return 'sponsors:' .. sponsorable end
function K.VISITOR(id) return 'user:' .. id end
K.DIRTY = 'sponsorsync:dirty'
function K.PENDING(id) return 'sponsorsync:pending:' .. id end
local CHUNK = 1000
local PROFILE = 'profile'
local moment_s
local function now_s()
  moment_s = moment_s or tonumber(redis.call('TIME')[1])
  return moment_s
end
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end
local function wrong_type(key, wanted)
  local found = exists(key) and redis.call('TYPE', key).ok or wanted
  if found ~= wanted then
    return 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. wanted
  end
end
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
local function is_visitor(id)
  return exists(K.VISITOR(id)) and redis.call('TYPE', K.VISITOR(id)).ok == 'hash'
end
local function stamp_of(notes, parts)
  table.sort(parts)
  local stamp = { (notes.x or '0') .. '/' .. (notes.m or '0') }
  for i, part in ipairs(parts) do
    stamp[i + 1] = part .. '=' .. notes['v:' .. part]
  end
  return table.concat(stamp, ' ')
end
local function judge_presence(noted, exists)
  if noted == '1' then
    return exists and 'there' or 'unknown'
  elseif noted == '0' then
    return exists and 'there' or 'empty'
  end
  return 'unknown'
end
local DECISIVE = { 'source', 'valid_until', 'also_until', 'partial' }
local function judge_cover(source, valid_until, also_until)
  local own, also = tonumber(valid_until or ''), tonumber(also_until or '')
  local is_sponsor = source and source ~= 'none'
  if (is_sponsor and not own) or also_until == 'never' then
    return true, nil
  end
  local ends = math.max(is_sponsor and own or 0, also or 0)
  return ends > now_s(), ends > 0 and ends or nil
end
local MOST_VALUES = 20000 -- some milliseconds
local MEMBERS_A_VALUE = 10 -- of a dump: that reads more of them in the same time
local what, as_dumps = string.match(ARGV[1], '^([^+]+)(%+?)')
as_dumps = as_dumps ~= ''
local sponsorables = cjson.decode(ARGV[2])
local only = string.match(what, '^only:(.+)$')
local cover_parts = {}
for i, sponsorable in ipairs(sponsorables) do
  cover_parts[i] = 'cover:' .. sponsorable
end
local function any_exists(name)
  local keys, found = {}, 0
  for i = 3, #ARGV do
    keys[#keys + 1] = name(ARGV[i])
  end
  for from = 1, #keys, CHUNK do
    local to = math.min(from + CHUNK - 1, #keys)
    found = found + redis.call('EXISTS', unpack(keys, from, to))
  end
  return found > 0
end
local some_visitors, some_pending = any_exists(K.VISITOR), any_exists(K.PENDING)
local dirty = {}
for from = 3, #ARGV, CHUNK do
  local to = math.min(from + CHUNK - 1, #ARGV)
  for i, is_member in ipairs(redis.call('SMISMEMBER', K.DIRTY, unpack(ARGV, from, to))) do
    dirty[ARGV[from + i - 1]] = is_member == 1
  end
end
local type_of_byte = {}
local function type_in(dump, key)
  local byte = string.byte(dump)
  type_of_byte[byte] = type_of_byte[byte] or redis.call('TYPE', key).ok
  return type_of_byte[byte]
end
local function read_key(key, kind)
  if as_dumps then
    local dump = redis.call('DUMP', key)
    if not dump then
      return {}, 0
    elseif type_in(dump, key) ~= kind then
      return nil, wrong_type(key, kind)
    elseif kind == 'hash' then
      return dump, 1
    end
    local size = redis.call('SCARD', key)
    return dump, 1 + math.floor(size / MEMBERS_A_VALUE), size
  end
  local reply = redis.pcall(kind == 'hash' and 'HGETALL' or 'SMEMBERS', key)
  if reply.err then
    return nil, wrong_type(key, kind) or reply.err
  end
  return reply, #reply
end
local function export(id)
  local meta = K.META(id)
  local flat = redis.pcall('HGETALL', meta)
  if flat.err then
    return { '', wrong_type(meta, 'hash') or flat.err }, 0
  end
  local notes, parts, holds_copy = read_notes(flat)
  local is_dirty, about_of = dirty[id], {}
  local covered, unknown = false, false
  local is_person = #parts == 0
  for _, part in ipairs(parts) do
    is_person = is_person or not sponsorable_of(part)
  end
  for i, part in ipairs(cover_parts) do
    local key = K.SPONSORSHIP(sponsorables[i], id)
    local about = redis.pcall('HMGET', key, unpack(DECISIVE))
    if about.err and notes['v:' .. part] then
      return { '', wrong_type(key, 'hash') or about.err }, 0
    end
    about_of[part] = about
    if judge_cover(unpack(about)) then
      covered = true
      unknown = unknown or (is_dirty
        and redis.pcall('SISMEMBER', K.SPONSORS(sponsorables[i]), id) == 0)
    end
    unknown = unknown or about[4] or ((is_person or notes['v:' .. part])
      and judge_presence(notes['p:' .. part], about[1]) == 'unknown')
  end
  local visitor = some_visitors and is_visitor(id)
  local sets_travel = (covered or what == 'all') and not visitor
  local packed, values = {}, 0
  if notes.x and #parts == 0 then
    unknown = false -- of an account that was deleted there is no cover to know
  end
  for _, part in ipairs(parts) do
    local kind, noted = part_type(part), notes['p:' .. part]
    local is_wanted = not only or part == only or about_of[part] ~= nil
    local is_partial = about_of[part] and about_of[part][4]
    if is_partial then
      unknown = true -- facts to which durable's grants have to be added first
    elseif is_wanted and (kind == 'hash' or sets_travel) then
      local key = part_key(id, part)
      local data, read, size = {}, 0, nil
      if kind == 'hash' or noted == '1' or exists(key) then
        data, read, size = read_key(key, kind)
      end
      if not data then
        return { '', read }, values
      end
      values = values + read
      if judge_presence(noted, #data > 0) ~= 'unknown' then
        packed[#packed + 1] = { part, notes['v:' .. part], data, size or about_of[part] }
        if kind == 'set' and what ~= 'all' and not notes['d:' .. part] then
          redis.call('HSET', meta, 'd:' .. part, '1')
        end
      elseif #data > 0 then
        unknown = true
      end
    elseif not noted and exists(part_key(id, part)) then
      unknown = true
    end
  end
  unknown = unknown or (some_pending and redis.call('EXISTS', K.PENDING(id)) == 1)
  local flags = (is_dirty and 'd' or '') .. (unknown and 'u' or '') .. (only and 'p' or '')
    .. (visitor and 'v' or '')
  if covered then
    flags = flags .. 'c'
  elseif holds_copy then
    flags = flags .. 'n'
  end
  local stamp = is_dirty and stamp_of(notes, parts) or '-'
  return { stamp, cmsgpack.pack({ id, notes.x or '0', packed }), flags }, values
end
local replies, total = {}, 0
for i = 3, #ARGV do
  local reply, values = export(ARGV[i])
  replies[#replies + 1] = reply
  total = total + values
  if total > MOST_VALUES then
    break
  end
end
return replies
""",
    "absorb": r"""
local QUIET_TTL_MS = 1000
local NEGATIVE_TTL_S = 30
local AUDIT_LENGTH = 100000
local K = {}
function K.USER_DETAILS(id) return 'user_details:' .. id end
function K.PREFERENCES(id, collection) return 'user:' .. id .. ':' .. collection end
function K.SPONSORSHIP(sponsorable, id) return 'sponsorship:' .. sponsorable .. ':' .. id end
function K.META(id) return 'sponsorsync:meta:' .. id end
function K.USER_DETAILS_JSON(id) return 'user_details_json:' .. id end
K.UNPACKED = 'sponsorsync:unpacked'
function K.SPONSORS(sponsorable) return 'sponsors:' .. sponsorable end
K.PEOPLE = 'sponsorsync:people'
function K.VISITOR(id) return 'user:' .. id end
K.DIRTY = 'sponsorsync:dirty'
K.OUTBOX = 'sponsorsync:outbox'
function K.LEASE(id) return 'sponsorsync:lease:' .. id end
function K.NEGATIVE(id) return 'sponsorsync:negative:' .. id end
function K.PENDING(id) return 'sponsorsync:pending:' .. id end
K.QUIET = 'sponsorsync:quiet'
K.COVER_ENDS = 'sponsorsync:cover_ends'
K.AUDIT = 'sponsorsync:audit'
function K.MEMBERS(sponsorable, id) return 'sponsorsync:members:' .. sponsorable .. ':' .. id end
K.ORGANIZATIONS = 'sponsorsync:organizations'
function K.PATRONS(sponsorable) return 'sponsorsync:patrons:' .. sponsorable end
local CHUNK = 1000
local PROFILE = 'profile'
local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local moment_s
local function now_s()
  moment_s = moment_s or tonumber(redis.call('TIME')[1])
  return moment_s
end
local function exists(key)
  return redis.call('OBJECT', 'ENCODING', key) ~= false
end
local function wrong_type(key, wanted)
  local found = exists(key) and redis.call('TYPE', key).ok or wanted
  if found ~= wanted then
    return 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. wanted
  end
end
local function call_in_chunks(command, key, values, first, last)
  local sum = 0
  for from = first, last, CHUNK do
    sum = sum + redis.call(command, key, unpack(values, from, math.min(from + CHUNK - 1, last)))
  end
  return sum
end
local function size_of(set)
  return exists(set) and redis.call('SCARD', set) or 0
end
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
local function notes_in(flat)
  local notes = {}
  for i = 1, #flat, 2 do
    notes[flat[i]] = flat[i + 1]
  end
  return notes
end
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
local function is_visitor(id)
  return exists(K.VISITOR(id)) and redis.call('TYPE', K.VISITOR(id)).ok == 'hash'
end
local function next_version()
  local last = redis.call('ZREVRANGE', K.PEOPLE, 0, 0, 'WITHSCORES')[2]
  return string.format('%.0f', math.max((tonumber(last) or 0) + 1, now_us()))
end
local function version_of(meta, part)
  return tonumber(redis.call('HGET', meta, 'v:' .. part) or '0')
end
local function note_person(id, version)
  local known = tonumber(redis.call('ZSCORE', K.PEOPLE, id) or '0')
  if tonumber(version) > known then
    redis.call('ZADD', K.PEOPLE, version, id)
  end
end
local function judge_presence(noted, exists)
  if noted == '1' then
    return exists and 'there' or 'unknown'
  elseif noted == '0' then
    return exists and 'there' or 'empty'
  end
  return 'unknown'
end
local function note_presence(meta, part, key)
  redis.call('HSET', meta, 'p:' .. part, exists(key) and '1' or '0')
  if part_type(part) == 'set' then
    redis.call('HSET', meta, 'n:' .. part, size_of(key))
  end
end
local function quietly(write)
  redis.call('SET', K.QUIET, '1', 'PX', QUIET_TTL_MS)
  local is_fine, reply = pcall(write)
  redis.call('DEL', K.QUIET)
  if not is_fine then
    error(reply)
  end
  return reply
end
local function write_key(key, kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', key, 0, data, 'REPLACE')
    return
  end
  redis.call('DEL', key)
  call_in_chunks(kind == 'hash' and 'HSET' or 'SADD', key, data, 1, #data)
end
local function unpacked(kind, data)
  if type(data) == 'string' then
    redis.call('RESTORE', K.UNPACKED, 0, data, 'REPLACE')
    data = redis.call(kind == 'hash' and 'HGETALL' or 'SMEMBERS', K.UNPACKED)
    redis.call('DEL', K.UNPACKED)
  end
  return data
end
local function note_part(fields, name, version, data, about)
  local at = #fields
  fields[at + 1], fields[at + 2] = 'v:' .. name, version
  fields[at + 3], fields[at + 4] = 'p:' .. name, #data > 0 and '1' or '0'
  if part_type(name) == 'set' then
    fields[at + 5], fields[at + 6] = 'n:' .. name, type(data) == 'string' and about or #data
  end
end
local json_is_known, json_is_permitted
local function ask_for_json(key)
  if json_is_known ~= nil then
    return
  end
  if redis.acl_check_cmd then
    json_is_known, json_is_permitted = pcall(redis.acl_check_cmd, 'JSON.SET', key, '.', '{}')
  else
    json_is_known = not string.find(redis.pcall('JSON.SET').err, 'Unknown', 1, true)
    json_is_permitted = json_is_known
  end
end
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
local function delete_up_to(id, meta, deleted)
  if tonumber(deleted) <= tonumber(redis.call('HGET', meta, 'x') or '0') then
    return
  end
  for _, part in ipairs(parts_in(meta)) do
    local version = version_of(meta, part)
    if version > 0 and version <= tonumber(deleted) then
      if not wrong_type(part_key(id, part), part_type(part)) then
        redis.call('DEL', part_key(id, part))
      end
      redis.call('HDEL', meta, 'v:' .. part, 'p:' .. part, 'n:' .. part, 'd:' .. part)
    end
  end
  redis.call('HSET', meta, 'x', deleted)
end
local function mark_dirty(id)
  redis.call('DEL', K.LEASE(id), K.NEGATIVE(id))
  redis.pcall('HINCRBY', K.META(id), 'm', 1) -- a foreign meta is named by export.lua
  if redis.call('SADD', K.DIRTY, id) == 1 then
    redis.call('XADD', K.OUTBOX, '*', 'u', id)
  end
end
local function save_hash(key, fields)
  for field, value in pairs(fields) do
    if value == cjson.null then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, value)
    end
  end
end
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
local function wrong_service_type(sponsorables)
  local wrong = wrong_type(K.DIRTY, 'set') or wrong_type(K.OUTBOX, 'stream')
    or wrong_type(K.PEOPLE, 'zset') or wrong_type(K.COVER_ENDS, 'zset')
  for _, sponsorable in ipairs(sponsorables or {}) do
    wrong = wrong or wrong_type(K.SPONSORS(sponsorable), 'set')
  end
  return wrong
end
local DECISIVE = { 'source', 'valid_until', 'also_until', 'partial' }
local function judge_cover(source, valid_until, also_until)
  local own, also = tonumber(valid_until or ''), tonumber(also_until or '')
  local is_sponsor = source and source ~= 'none'
  if (is_sponsor and not own) or also_until == 'never' then
    return true, nil
  end
  local ends = math.max(is_sponsor and own or 0, also or 0)
  return ends > now_s(), ends > 0 and ends or nil
end
local function cover_of(id, sponsorable)
  local facts = redis.pcall('HMGET', K.SPONSORSHIP(sponsorable, id), unpack(DECISIVE))
  if facts.err then
    return false
  end
  return judge_cover(unpack(facts))
end
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
local function note_organization(sponsorable, id, member)
  local field = sponsorable .. ':' .. id .. (member and ':' .. member or '')
  redis.pcall('HSET', K.ORGANIZATIONS, field, next_version())
end
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
    redis.pcall(
      'XADD', K.AUDIT, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'id', id, 'sponsorable', sponsorable,
      'what', what, 'by', by, 'reference', reference, 'before', before.text, 'after', after.text
    )
  end
end
local token, known_names, id = ARGV[1], cjson.decode(ARGV[2]), ARGV[3]
local _, deleted, parts = unpack(cmsgpack.unpack(ARGV[4]))
local meta, pending, visitor = K.META(id), K.PENDING(id), is_visitor(id)
if token ~= '' and redis.call('GET', K.LEASE(id)) ~= token then
  return 'lost'
end
local expected = { PROFILE }
for _, sponsorable in ipairs(known_names.sponsorables) do
  expected[#expected + 1] = 'cover:' .. sponsorable
end
for _, collection in ipairs(known_names.collections) do
  if not visitor then
    expected[#expected + 1] = collection
  end
end
local wrong = wrong_type(meta, 'hash') or wrong_type(pending, 'hash')
  or wrong_service_type(known_names.sponsorables)
local is_there = {}
local function check(part)
  if is_there[part] == nil then
    local key = part_key(id, part)
    is_there[part] = exists(key)
    wrong = wrong or (is_there[part] and wrong_type(key, part_type(part)))
  end
end
for _, part in ipairs(parts) do
  check(part[1])
end
for _, part in ipairs(expected) do
  check(part)
end
if wrong then
  return wrong
end
local OWN = {
  'checked_at', 'source', 'tier_cents', 'is_one_time', 'privacy', 'payment_source', 'since',
  'valid_until', 'unknown_since',
}
local had = {}
for _, sponsorable in ipairs(known_names.sponsorables) do
  had[sponsorable] = grants_of(id, sponsorable)
end
local answer = quietly(function()
  local notes = notes_in(redis.call('HGETALL', meta))
  if tonumber(deleted) > tonumber(notes.x or '0') then
    delete_up_to(id, meta, deleted)
    note_person(id, deleted)
    notes = notes_in(redis.call('HGETALL', meta))
    for part in pairs(is_there) do
      is_there[part] = exists(part_key(id, part))
    end
  end
  deleted = tonumber(notes.x or '0')
  local function is_unknown(part)
    return judge_presence(notes['p:' .. part], is_there[part]) == 'unknown'
  end
  local function is_partial(part, key)
    return sponsorable_of(part) and exists(key) and redis.call('HEXISTS', key, 'partial') == 1
  end
  local changed, is_changed = {}, {}
  local function change(part)
    if not is_changed[part] then
      is_changed[part] = true
      changed[#changed + 1] = part
    end
  end
  local function unite(part, key, data)
    local kind = part_type(part)
    data = unpacked(kind, data)
    if kind == 'set' then
      call_in_chunks('SADD', key, data, 1, #data)
    else
      for i = 1, #data, 2 do
        redis.call('HSETNX', key, data[i], data[i + 1])
      end
    end
    change(part)
  end
  local function write_grants(key, grants)
    local also_until = 0
    for _, grant in ipairs(grants) do
      if grant.has_seat ~= false then
        also_until = math.max(also_until, grant['until'] or math.huge)
      end
    end
    redis.call('HDEL', key, 'also', 'also_until')
    if #grants > 0 then
      redis.call('HSET', key, 'also', cjson.encode(grants))
    end
    if also_until > 0 then
      also_until = also_until == math.huge and 'never' or string.format('%.0f', also_until)
      redis.call('HSET', key, 'also_until', also_until)
    end
  end
  local function complete_own(key, mine, held)
    if not mine.checked_at and held.checked_at then
      for _, field in ipairs(OWN) do
        save_hash(key, { [field] = held[field] or cjson.null })
      end
    elseif mine.source == held.source and mine.since and mine.since == held.since then
      if held.tier_cents then
        redis.call('HSETNX', key, 'tier_cents', held.tier_cents)
      end
      if tonumber(held.valid_until or '0') > now_s() then
        redis.call('HSETNX', key, 'valid_until', held.valid_until)
      end
    end
  end
  local function complete(sponsorable, key, data)
    local mine, held = notes_in(redis.call('HGETALL', key)), notes_in(data)
    complete_own(key, mine, held)
    local all_shown = mine.memberships_checked_at and not mine.memberships_unknown_since
    local grants, has = grants_in(mine.also), {}
    local function name_of(grant)
      return grant.organization_id or grant.source or ''
    end
    for _, grant in ipairs(grants) do
      has[name_of(grant)] = true
    end
    for _, grant in ipairs(grants_in(held.also)) do
      if not has[name_of(grant)] and not (all_shown and grant.organization_id) then
        grants[#grants + 1] = grant
      end
    end
    if not mine.memberships_checked_at and held.memberships_checked_at then
      redis.call('HSET', key, 'memberships_checked_at', held.memberships_checked_at)
      if held.memberships_unknown_since then
        redis.call('HSETNX', key, 'memberships_unknown_since', held.memberships_unknown_since)
      end
    end
    redis.call('HDEL', key, 'partial')
    write_grants(key, grants)
    change('cover:' .. sponsorable)
  end
  local function without_patron(grants, patron_id)
    local kept = {}
    for _, grant in ipairs(grants) do
      if grant.patron_id ~= patron_id then
        kept[#kept + 1] = grant
      end
    end
    return kept
  end
  local function take_patron(holder, sponsorable, patron_id, grants)
    local key, part = K.SPONSORSHIP(sponsorable, holder), 'cover:' .. sponsorable
    local before = cover_for_audit(holder, sponsorable)
    write_grants(key, without_patron(grants, patron_id))
    index_grants(holder, sponsorable, grants, grants_of(holder, sponsorable))
    index_cover(holder, sponsorable)
    audit_cover(holder, sponsorable, before, 'patreon', '')
    commit(holder, K.META(holder), { part })
    derive_document(holder)
  end
  local function settle_patron(sponsorable, patron_id, grants)
    local patrons, part = K.PATRONS(sponsorable), 'cover:' .. sponsorable
    local holder = exists(patrons) and redis.pcall('HGET', patrons, patron_id)
    if type(holder) ~= 'string' or holder == id or wrong_type(K.META(holder), 'hash') then
      return grants
    end
    local held = grants_of(holder, sponsorable)
    if #without_patron(held, patron_id) == #held then
      return grants
    elseif version_of(K.META(holder), part) >= version_of(meta, part) then
      return without_patron(grants, patron_id)
    end
    take_patron(holder, sponsorable, patron_id, held)
    return grants
  end
  local function settle_patrons(sponsorable, key)
    local grants = grants_of(id, sponsorable)
    local kept = grants
    for _, grant in ipairs(grants) do
      if grant.patron_id then
        kept = settle_patron(sponsorable, grant.patron_id, kept)
      end
    end
    if #kept < #grants then
      write_grants(key, kept)
      change('cover:' .. sponsorable)
    end
  end
  local own = {}
  for _, collection in ipairs(known_names.collections) do
    if not visitor and not is_unknown(collection) then
      own[collection] = true
    end
  end
  local is_taken, is_newer, noted = {}, {}, {}
  for _, part in ipairs(parts) do
    local name, version, data = unpack(part)
    local key = part_key(id, name)
    local is_set = part_type(name) == 'set'
    if tonumber(version) > deleted and not (is_set and visitor) then
      local unknown = is_unknown(name)
      if unknown and token ~= '' and is_there[name] then
        unite(name, key, data)
      elseif (unknown and token ~= '')
          or (not unknown and tonumber(version) > tonumber(notes['v:' .. name] or '0')) then
        write_key(key, part_type(name), data)
        note_part(noted, name, version, data, part[4])
        note_person(id, version)
        own[name], is_taken[name] = nil, true
        is_newer[name] = tonumber(version) > tonumber(notes['v:' .. name] or '0')
      elseif token ~= '' and is_partial(name, key) then
        complete(sponsorable_of(name), key, unpacked('hash', data))
      end
      if is_set then
        noted[#noted + 1] = 'd:' .. name
        noted[#noted + 1] = '1'
      end
    end
  end
  call_in_chunks('HSET', meta, noted, 1, #noted)
  local joined = false
  for _, sponsorable in ipairs(known_names.sponsorables) do
    local key = K.SPONSORSHIP(sponsorable, id)
    if token ~= '' and is_partial('cover:' .. sponsorable, key) then
      complete(sponsorable, key, {}) -- durable has none
    end
    settle_patrons(sponsorable, key)
    index_grants(id, sponsorable, had[sponsorable], grants_of(id, sponsorable))
    if is_newer['cover:' .. sponsorable] and exists(K.MEMBERS(sponsorable, id)) then
      note_organization(sponsorable, id)
    end
    local is_new, covered, ends = index_cover(id, sponsorable)
    joined = joined or is_new
    if ends and not covered then
      redis.call('ZADD', K.COVER_ENDS, ends, sponsorable .. ':' .. id)
    end
  end
  if joined then
    for collection in pairs(own) do
      change(collection)
    end
  end
  if token == '' then
    if #changed > 0 then
      commit(id, meta, changed)
    end
    return 'ok'
  end
  local absent = {}
  for _, part in ipairs(expected) do
    if not is_changed[part] and not is_taken[part] and is_unknown(part) then
      if is_there[part] then
        change(part)
      else
        absent[#absent + 1] = part
      end
    end
  end
  local waiting = redis.call('HGETALL', pending)
  for i = 1, #waiting, 2 do
    local collection, item = string.match(waiting[i], '^([^\n]+)\n(.*)$')
    redis.call(waiting[i + 1] == '+' and 'SADD' or 'SREM', K.PREFERENCES(id, collection), item)
    change(collection)
  end
  redis.call('DEL', pending)
  if #changed > 0 then
    commit(id, meta, changed)
  end
  redis.call('DEL', K.NEGATIVE(id), K.LEASE(id))
  for _, part in ipairs(absent) do
    if not is_changed[part] then
      redis.call('SADD', K.NEGATIVE(id), part)
      redis.call('EXPIRE', K.NEGATIVE(id), NEGATIVE_TTL_S)
    end
  end
  return 'ok'
end)
derive_document(id)
return answer
""",
    "release_lease": r"""
local K = {}
function K.LEASE(id) return 'sponsorsync:lease:' .. id end
if redis.call('GET', K.LEASE(ARGV[1])) == ARGV[2] then
  return redis.call('DEL', K.LEASE(ARGV[1]))
end
return 0
""",
}
LUA_SHA = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in LUA.items()}


DEFAULT_COLLECTIONS = ["mnodes"]


class NotComparedError(Exception):
    """A server has been restarted, and the service has yet to compare it with the other one."""


def load_names():
    """Returns {"sponsorables": [login], "collections": [name]}.

    From the upload; else from the environment of the Redis server; else, of the sponsorables,
    whoever has an index of sponsors here: that looks at every key of the server.
    """
    names = read_names()
    if not names["sponsorables"]:
        prefix = SPONSORS.format(sponsorable="")
        names["sponsorables"] = [text_of(key)[len(prefix) :] for key in scan(prefix + "*")]
    return names


def require_names():
    """Returns the same for a script that stays live.

    Raises:
        ValueError: Nobody named a sponsorable; the upload fails with this sentence.
    """
    names = read_names()
    if not names["sponsorables"]:
        raise ValueError(
            "no sponsorable is named: set SPONSORSYNC_SPONSORABLES in the environment of the Redis "
            "server, or CONFIG in this file"
        )
    return names


def read_names():
    sponsorables = CONFIG.get("sponsorables") or _split(os.environ.get("SPONSORSYNC_SPONSORABLES"))
    collections = CONFIG.get("collections") or _split(os.environ.get("SPONSORSYNC_COLLECTIONS"))
    return {"sponsorables": sponsorables, "collections": collections or DEFAULT_COLLECTIONS}


def _split(value):
    return [part.strip().lower() for part in (value or "").split(",") if part.strip()]


def scan(pattern):
    """Returns the keys of a pattern, asked for in pages: nobody waits for all of them."""
    keys, cursor = set(), "0"
    while True:
        cursor, page = execute("SCAN", cursor, "MATCH", pattern, "COUNT", "1000")
        keys.update(as_bytes(key) for key in page)
        cursor = text_of(cursor)
        if cursor == "0":
            return sorted(keys)


def run_local(name, *arguments):
    """Runs a script of LUA; returns its reply as `execute` gives it.

    Bytes travel as a bytearray: `execute` makes a text of anything else.
    """
    arguments = [bytearray(each) if isinstance(each, bytes) else each for each in arguments]
    try:
        return execute("EVALSHA", LUA_SHA[name], "0", *arguments)
    except Exception as error:
        if "NOSCRIPT" not in str(error):
            raise
    return execute("EVAL", LUA[name], "0", *arguments)


def as_bytes(value):
    """Returns a reply of `execute` as it is in Redis: what is UTF-8 came as text."""
    return value.encode() if isinstance(value, str) else bytes(value)


def text_of(value):
    """Returns a reply, or a reply's part, as text."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


def run_id_here():
    """Returns what names this incarnation of the Redis that this script runs in."""
    return run_id_in(execute("INFO", "server"))


def run_id_in(info):
    """Returns the same, of whichever server this INFO is."""
    found = re.search(r"^run_id:(\w+)", text_of(info), re.MULTILINE)
    return found.group(1) if found else ""


def compared_incarnation(side):
    """Returns which incarnation of 'local' or 'durable' the service compared last, or None.

    None where no service has been here since the last FLUSHALL: then nothing is known that a server
    could be older than.
    """
    found = execute("HGET", EPOCH, side)
    return None if found is None else text_of(found)


def require_compared(side, run_id):
    """Raises NotComparedError where a server is another incarnation than the one last compared."""
    compared = compared_incarnation(side)
    if compared is not None and compared != run_id:
        raise not_compared(side)


def not_compared(side):
    return NotComparedError("the {} Redis has been restarted and is being compared".format(side))


def form_for(side, what):
    """Returns what to ask export.lua for: dumps, where that side is known to read the other one's.

    The service tries it whenever it compares the two, and notes it.
    """
    reads = execute("HGET", EPOCH, "dumps:" + side)
    return what + ("+dumps" if reads is not None and text_of(reads) == "1" else "")


def is_local_compared():
    """Whether the service has compared this incarnation of local with durable, or there is none.

    Asked until it has: from then on it stays so for as long as this process lives.
    """
    if not getattr(redis, "sponsorsync_local_compared", False):
        compared = compared_incarnation("local")
        if compared is None:
            return True
        redis.sponsorsync_local_compared = compared == run_id_here()
    return redis.sponsorsync_local_compared


def match_key(pattern, key):
    """Returns the match of a key, or None. One that is not UTF-8 comes as bytes, and is not ours."""
    return pattern.match(key) if isinstance(key, str) else None


CONNECT_TIMEOUT_S = 1.0
SOCKET_TIMEOUT_S = 2.0
DOWN_S = 2.0
NOT_COMPARED = "not compared"
VARIABLES = ["REDISENT_" + name for name in ("HOST", "PORT", "USER", "PWD", "TLS", "CA")]


class DurableDownError(Exception):
    """Durable cannot be asked at the moment: nothing of it is a fault of the data."""


# Empty when the callbacks are registered: they are pickled with what they refer to, which a connection
# cannot be. Each script has its own client: one that two shared would call functions of whichever
# made it, and those are gone when that script is replaced.
CLIENTS = {}


class DurableRefusesError(Exception):
    """A key of somebody's holds data of another type there: theirs alone, and no outage."""


def durable():
    """Returns this script's client for what the environment says, which is made at the first call."""
    address = tuple(os.environ.get(name) for name in VARIABLES)
    if address not in CLIENTS:
        CLIENTS[address] = create_durable(os.environ)
    return CLIENTS[address]


def create_durable(environment):
    """Returns a client for what REDISENT_* name; it has not connected yet.

    Raises:
        DurableDownError: REDISENT_HOST is not set.
    """
    host = environment.get("REDISENT_HOST")
    if not host:
        raise DurableDownError(
            "REDISENT_HOST is not in the environment of the Redis server (.env.gears)"
        )
    ca = environment.get("REDISENT_CA") or None
    options = {}
    if ca or environment.get("REDISENT_TLS", "").lower() in ("1", "true", "yes", "on"):
        options = {"ssl": True, "ssl_ca_certs": ca, "ssl_cert_reqs": "required"}
        options["ssl_check_hostname"] = True
    return redis.Redis(
        redis_connect_func=greet,
        host=host,
        port=int(environment.get("REDISENT_PORT") or 6379),
        username=environment.get("REDISENT_USER") or None,
        password=environment.get("REDISENT_PWD") or None,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        client_name="sponsorsync-gears",
        **options,
    )


def greet(connection):
    """Makes a new connection one that may be used: with durable as the service compared it.

    A restart ends connections, so none leads to another incarnation later. What a durable that fell
    back counts of ours would hide how far. What is raised is a class of the client's, which takes it
    for a connection that failed.
    """
    connection.on_connect()
    connection.send_command("INFO", "server")
    compared, run_id = compared_incarnation("durable"), run_id_in(connection.read_response())
    if compared is not None and compared != run_id:
        connection.disconnect()
        raise redis.exceptions.ConnectionError(NOT_COMPARED)


def run_durable(name, argument_lists):
    """Runs a script of LUA several times in one round trip; returns the replies.

    With them durable tells which incarnation it is.

    Raises:
        DurableDownError: It cannot be asked. For DOWN_S after that nobody else tries.
        NotComparedError: It has been restarted; nothing that it says is used before the service
            has compared it.
    """
    if time.time() < getattr(redis, "sponsorsync_down_until", 0.0):
        raise DurableDownError("durable could not be reached a moment ago")
    try:
        info, replies = _run_all(durable(), name, argument_lists)
    except redis.exceptions.RedisError as error:
        raise outage(error) from None
    try:
        require_compared("durable", str(info.get("run_id", "")))
    except NotComparedError:
        durable().connection_pool.disconnect()
        raise
    return replies


def outage(error):
    """Returns what to raise instead of an error of the client's.

    From None: its own words name durable's address, and can be read in Redis.
    """
    if str(error) == NOT_COMPARED:
        return not_compared("durable")
    if isinstance(error, redis.exceptions.ResponseError) and "WRONGTYPE" in str(error):
        return DurableRefusesError(str(error))
    redis.sponsorsync_down_until = time.time() + DOWN_S
    return DurableDownError("durable cannot be asked: {}".format(type(error).__name__))


def _run_all(client, name, argument_lists):
    """Returns INFO and the replies; what durable saw never is run again with its text."""
    replies = _run_once(client, name, argument_lists)
    if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
        client.script_load(LUA[name])
        replies = _run_once(client, name, argument_lists)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies[0], replies[1:]


def _run_once(client, name, argument_lists):
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("INFO", "server")
    for arguments in argument_lists:
        pipeline.execute_command("EVALSHA", LUA_SHA[name], 0, *arguments)
    return pipeline.execute(raise_on_error=False)


def fetch(ids, names, token):
    """Takes from durable what it has of people; returns the reasons for which some could not be.

    With a token this ends a lease: it fills what is unknown. With '' it takes what is known here
    and newer there.

    Raises:
        DurableDownError, NotComparedError: Durable cannot be asked, or not yet be believed.
    """
    refused = {}
    for person, row in export_from_durable(ids, names):
        if not as_bytes(row[0]):
            refused[person] = text_of(row[1])
            continue
        arguments = (token, json.dumps(names), person, row[1])
        reply = text_of(run_local("absorb", *arguments))
        if reply not in ("ok", "lost"):
            refused[person] = reply
    return refused


def export_from_durable(ids, names):
    """Yields (person, row of export.lua) of each; a script that had read much is asked again."""
    waiting, what = list(ids), form_for("local", "all")
    while waiting:
        pieces = in_pieces(waiting)
        sponsorables = json.dumps(names["sponsorables"])
        replies = run_durable("export", [[what, sponsorables, *piece] for piece in pieces])
        waiting = []
        for piece, rows in zip(pieces, replies):
            yield from zip(piece, rows)
            waiting += piece[len(rows) :]


def in_pieces(values, size=PEOPLE_A_SCRIPT):
    return [values[at : at + size] for at in range(0, len(values), size)]


def release(ids, token):
    """Gives leases back that could not be used."""
    for person in ids:
        run_local("release_lease", person, token)


# </shared>

SET_COMMANDS = ["smembers", "sismember", "smismember", "scard"]
HASH_COMMANDS = ["hgetall", "hget", "hmget"]

# A reader waits for it, and until the first one knows that durable hangs, others do as well.
SOCKET_TIMEOUT_S = 1.0

# Somebody else, the service most likely, is fetching the same person.
PATIENCE_S = 2.0
POLL_S = 0.005


def answer_collection(record):
    """Answers the command that missed, after fetching what is unknown.

    The engine refuses a coroutine function here: with `async def` the whole server ends.
    """
    found = match_key(COLLECTION_KEY, record["key"])
    if not found:
        return
    person, collection = found.groups()
    command = current_command()
    try:
        answer = ask_until_known(
            person, lambda token: ("read_preferences", person, collection, token, "list")
        )
        if text_of(answer[0]) == "empty":
            require_comparison()
    except Exception as error:
        reply_error(command, error)
        return
    if text_of(answer[0]) == "visitor" or command is None:
        return
    override_reply(shape_of_set(command, [as_bytes(each) for each in answer[1]]))


def require_comparison():
    """Raises NotComparedError where local may have come back older: then nothing is known empty."""
    if not is_local_compared():
        raise not_compared("local")


def answer_profile(record):
    """Likewise for a profile."""
    found = match_key(PROFILE_KEY, record["key"])
    if not found:
        return
    person = found.group(1)
    command = current_command()
    try:
        answer = ask_until_known(person, lambda token: ("load_account", person, token))
    except Exception as error:
        reply_error(command, error)
        return
    if command is None:
        return
    flat = [as_bytes(each) for each in answer[1]]
    reply = shape_of_hash(command, flat)
    # A nil cannot be said, nor within a list: then the command answers for itself, as for no key.
    if reply is not None:
        override_reply(reply)


def current_command():
    """Returns the command that missed, or None within MULTI or Lua, where nobody can be answered."""
    try:
        return get_command()
    except Exception:
        return None


def reply_error(command, error):
    """Tells the reader; what is no outage is told to the log, too, and counts as a failure."""
    is_outage = isinstance(error, (DurableDownError, NotComparedError))
    if command is not None:
        reason = str(error) if is_outage else "what is kept there could not be brought back"
        override_reply("-ERR sponsorsync: " + reason.replace("\r", " ").replace("\n", " "))
    if not is_outage:
        raise error


def shape_of_set(command, members):
    """Returns the reply that a command on a set of these members has; members are bytes.

    Text that begins with '-' or '+' would become an error or a status.
    """
    name = command[0].lower()
    if name == "smembers":
        return members
    if name == "scard":
        return len(members)
    known = set(members)
    if name == "sismember":
        return int(as_bytes(command[2]) in known)
    return [int(as_bytes(each) in known) for each in command[2:]]


def shape_of_hash(command, flat):
    """Returns the reply of a command on a hash of these fields and values; None has to be nil."""
    name = command[0].lower()
    if name == "hgetall":
        return flat
    fields = dict(zip(flat[::2], flat[1::2]))
    values = [fields.get(as_bytes(each)) for each in command[2:]]
    if None in values:
        return None
    return values[0] if name == "hget" else values


def ask_until_known(person, call):
    """Runs a script with a lease token until it has an answer, and returns that.

    Whoever's token took the lease fetches; while it is somebody else's, the answer is awaited.

    Raises:
        DurableDownError, NotComparedError: Only durable knows, and cannot be asked.
    """
    token = binascii.hexlify(os.urandom(8)).decode()
    ends = time.time() + PATIENCE_S
    answer = run_local(*call(token))
    while text_of(answer[0]) == "ask":
        if time.time() > ends:
            raise DurableDownError("somebody else's fetch from durable takes too long")
        if text_of(answer[1]) == token:
            fetch_leased(person, token)
        else:
            time.sleep(POLL_S)
        answer = run_local(*call(token))
    return answer


def fetch_leased(person, token):
    try:
        refused = fetch([person], NAMES, token)
    except Exception:
        release([person], token)
        raise
    if refused:
        release([person], token)
        raise ValueError("person {}: {}".format(person, refused[person]))


NAMES = require_names()
COLLECTION_KEY = re.compile(
    "^"
    + PREFERENCES.format(id="([1-9][0-9]*)", collection="(%s)")
    % "|".join(re.escape(each) for each in NAMES["collections"])
    + "$"
)
PROFILE_KEY = re.compile("^" + USER_DETAILS.format(id="([1-9][0-9]*)") + "$")


def beginnings():
    """Yields how ids begin, so that no id begins in two ways: '1:' … '9:' and '10' … '99'.

    Misses of one registration are answered one after the other, those of different ones side by
    side. Numbers of GitHub never begin with 0.
    """
    for first in "123456789":
        yield first + ":"
        for second in "0123456789":
            yield first + second


# Without commands the first reader is not waited for, and only the next one gets the members.
HOOKED = {"commands": SET_COMMANDS} if CONFIG.get("hook_collections", True) else {}

for beginning in beginnings():
    GearsBuilder("KeysReader", desc="sponsorsync collections").foreach(answer_collection).register(
        prefix=PREFERENCES.partition("{")[0] + beginning + "*",
        eventTypes=["keymiss"],
        mode="async_local",
        readValue=False,
        convertToStr=False,
        collect=False,
        **HOOKED,
    )

if CONFIG.get("hook_profiles"):
    for beginning in "123456789":
        GearsBuilder("KeysReader", desc="sponsorsync profiles").foreach(answer_profile).register(
            prefix=USER_DETAILS.partition("{")[0] + beginning + "*",
            eventTypes=["keymiss"],
            commands=HASH_COMMANDS,
            mode="async_local",
            readValue=False,
            convertToStr=False,
            collect=False,
        )
