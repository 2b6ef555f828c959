-- give_answer: leave a query's answer for its reader.
--
-- KEYS[1]  answer   list with one entry
-- ARGV[1]  body     JSON
-- ARGV[2]  ttl_ms
--
-- Returns 1 | 0
--
-- H9: the first answer stands.

if redis.call("EXISTS", KEYS[1]) == 1 then
    return 0
end
redis.call("RPUSH", KEYS[1], ARGV[1])
redis.call("PEXPIRE", KEYS[1], ARGV[2])
return 1
