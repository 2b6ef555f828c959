-- discard_entries: remove inbox entries that belong to no history.
--
-- KEYS[1]  lease    string "<owner>/<token>"
-- KEYS[2]  inbox    stream
-- ARGV[1]  token
-- ARGV[2 ..]        entry ids
--
-- Returns 1 | 0
--
-- H3: nothing is removed under a lease that is not held.

local lease = redis.call("GET", KEYS[1])
if not lease or string.sub(lease, -(#ARGV[1] + 1)) ~= "/" .. ARGV[1] then
    return 0
end
for i = 2, #ARGV, 1000 do
    redis.call("XDEL", KEYS[2], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return 1
