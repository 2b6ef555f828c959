-- renew_lease: extend a partition's lease that is still held under this token.
--
-- KEYS[1]  lease    string "<owner>/<token>"
-- ARGV[1]  token
-- ARGV[2]  ttl_ms
--
-- Returns 1 | 0

local lease = redis.call("GET", KEYS[1])
if not lease or string.sub(lease, -(#ARGV[1] + 1)) ~= "/" .. ARGV[1] then
    return 0
end
redis.call("PEXPIRE", KEYS[1], ARGV[2])
return 1
