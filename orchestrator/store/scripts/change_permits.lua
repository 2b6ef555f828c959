-- change_permits: one change to the permits of one key, and what it grants.
--
-- KEYS[1]  permits  hash, "limit" → number; holder → "<fence> <since_ms>", and " new" behind it
--                   until the holder was told
-- KEYS[2]  waiting  zset, place → holder
-- KEYS[3]  fence    string, the last number given out in the partition
-- ARGV[1]  verb     "request" | "release" | "told"
-- ARGV[2]  holder   "<workflow>.<run>.<permit>"; always with dots, so never "limit"
-- ARGV[3]  limit    of a request, which becomes the key's; of "told" the fence; else ""
--
-- Returns {holder, fence, since_ms, …} of all that were granted and not told (P4).
--
-- P1: grants are given while fewer than the limit hold.
-- P2: places and fences are numbers of one counter, which outlives the key: it never falls.
-- P3: a holder that holds or waits already is not queued again; what is not there is not removed.

local verb, holder = ARGV[1], ARGV[2]

if verb == "told" then
    -- Of a permit that was released, and perhaps granted anew, this says nothing.
    local held = redis.call("HGET", KEYS[1], holder)
    local fence, since = string.match(held or "", "^(%d+) (%d+) new$")
    if fence == ARGV[3] then
        redis.call("HSET", KEYS[1], holder, fence .. " " .. since)
    end
    return {}
end

if verb == "request" then
    local is_known = redis.call("HEXISTS", KEYS[1], holder) == 1
        or redis.call("ZSCORE", KEYS[2], holder)
    if not is_known then
        redis.call("ZADD", KEYS[2], redis.call("INCR", KEYS[3]), holder)
        redis.call("HSET", KEYS[1], "limit", ARGV[3])
    end
else
    redis.call("HDEL", KEYS[1], holder)
    redis.call("ZREM", KEYS[2], holder)
end

local limit = tonumber(redis.call("HGET", KEYS[1], "limit") or "0")
local free = limit - (redis.call("HLEN", KEYS[1]) - 1)
if free > 0 then
    local time = redis.call("TIME")
    local since = string.format("%d", tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
    for _, next_one in ipairs(redis.call("ZRANGE", KEYS[2], 0, free - 1)) do
        local fence = string.format("%d", redis.call("INCR", KEYS[3]))
        redis.call("ZREM", KEYS[2], next_one)
        redis.call("HSET", KEYS[1], next_one, fence .. " " .. since .. " new")
    end
end

local told = {}
local held = redis.call("HGETALL", KEYS[1])
for i = 1, #held, 2 do
    local fence, since = string.match(held[i + 1], "^(%d+) (%d+) new$")
    if fence then
        told[#told + 1], told[#told + 2], told[#told + 3] = held[i], fence, since
    end
end
if #held <= 2 and redis.call("EXISTS", KEYS[2]) == 0 then
    redis.call("DEL", KEYS[1])
end
return told
