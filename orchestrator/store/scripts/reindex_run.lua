-- reindex_run: make the row of a run say what its history says, and its indexes what the row says.
--
-- KEYS[1]  row      hash, the workflow id's latest run
-- KEYS[2]  past     hash, this run's row once another run of the id has begun
-- KEYS[3]  index    what the names of the partition's indexes begin with
-- ARGV[1]  workflow   id
-- ARGV[2]  run        number
-- ARGV[3]  seq        last event that the fields were made from
-- ARGV[4]  open       "1" if the run has not ended
-- ARGV[5]  number of statuses; then the statuses, all there are
-- Then names and values: the fields of the row, among them type, status, started_at_ms, indexes
--
-- Returns 1, or 0 where the row has another seq by now: nothing was changed
--
-- I1, I4: see index_ports.  H9: a second time it writes what is there already.

local row = KEYS[1]
if redis.call("HGET", row, "run") ~= ARGV[2] then
    row = KEYS[2]
end
local seq = redis.call("HGET", row, "seq")
if seq and seq ~= ARGV[3] or not seq and row == KEYS[1] then
    return 0
end

local member = ARGV[1] .. "." .. ARGV[2]
local before = redis.call("HGET", row, "indexes")
for _, name in ipairs(cjson.decode(before or "[]")) do
    redis.call("ZREM", KEYS[3] .. name, member)
end
redis.call("ZREM", KEYS[3] .. "open", member)
local first = 6 + tonumber(ARGV[5])
for i = 6, first - 1 do
    redis.call("ZREM", KEYS[3] .. "status:" .. ARGV[i], member)
end
for i = first, #ARGV, 2 do
    redis.call("HSET", row, ARGV[i], ARGV[i + 1])
end
local found = redis.call("HMGET", row, "type", "status", "started_at_ms", "indexes")
local names = cjson.decode(found[4])
names[#names + 1] = "all"
if ARGV[4] == "1" then
    names[#names + 1] = "open"
end
names[#names + 1] = "type:" .. found[1]
names[#names + 1] = "status:" .. found[2]
for _, name in ipairs(names) do
    redis.call("ZADD", KEYS[3] .. name, found[3], member)
end
return 1
