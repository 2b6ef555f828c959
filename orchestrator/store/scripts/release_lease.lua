-- release_lease: give a partition's lease back, if it is still held under this token.
--
-- KEYS[1]  lease    string "<owner>/<token>"
-- ARGV[1]  token
--
-- Returns 1 | 0

local lease = redis.call("GET", KEYS[1])
if not lease or string.sub(lease, -(#ARGV[1] + 1)) ~= "/" .. ARGV[1] then
    return 0
end
redis.call("DEL", KEYS[1])
return 1
