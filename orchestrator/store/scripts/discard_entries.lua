-- discard_entries: remove inbox entries, and timers, that belong to no history.
--
-- KEYS[1]  lease    string "<owner>/<token>"
-- KEYS[2]  inbox    stream
-- KEYS[3]  timers   zset
-- ARGV[1]  token
-- ARGV[2]  number of entries
-- ARGV[3 ..]        entry ids, and then timers
--
-- Returns 1 | 0
--
-- H3: nothing is removed under a lease that is not held.

local lease = redis.call("GET", KEYS[1])
if not lease or string.sub(lease, -(#ARGV[1] + 1)) ~= "/" .. ARGV[1] then
    return 0
end
local last = 2 + tonumber(ARGV[2])
for i = 3, last, 1000 do
    redis.call("XDEL", KEYS[2], unpack(ARGV, i, math.min(i + 999, last)))
end
for i = last + 1, #ARGV, 1000 do
    redis.call("ZREM", KEYS[3], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return 1
