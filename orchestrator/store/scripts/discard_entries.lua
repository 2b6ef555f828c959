-- discard_entries: remove inbox entries, timers and expired claims that belong to no history.
--
-- KEYS[1]  lease    string "<owner>/<token>"
-- KEYS[2]  inbox    stream
-- KEYS[3]  timers   zset
-- KEYS[4]  claims   zset
-- ARGV[1]  token
-- ARGV[2]  number of entries
-- ARGV[3]  number of timers
-- ARGV[4 ..]        entry ids, then timers, then claims
--
-- Returns 1 | 0
--
-- H3: nothing is removed under a lease that is not held.

local lease = redis.call("GET", KEYS[1])
if not lease or string.sub(lease, -(#ARGV[1] + 1)) ~= "/" .. ARGV[1] then
    return 0
end
local last_entry = 3 + tonumber(ARGV[2])
local last_timer = last_entry + tonumber(ARGV[3])
for i = 4, last_entry, 1000 do
    redis.call("XDEL", KEYS[2], unpack(ARGV, i, math.min(i + 999, last_entry)))
end
for i = last_entry + 1, last_timer, 1000 do
    redis.call("ZREM", KEYS[3], unpack(ARGV, i, math.min(i + 999, last_timer)))
end
local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for i = last_timer + 1, #ARGV do
    local until_ms = redis.call("ZSCORE", KEYS[4], ARGV[i])
    if until_ms and tonumber(until_ms) <= now_ms then
        redis.call("ZREM", KEYS[4], ARGV[i])
    end
end
return 1
