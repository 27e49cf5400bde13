-- The policy of the benchmark: six hooks on the way of each message, each doing a little of what real policies do.

require("msys.core")

local bench = {}

function bench:validate_mailfrom(str, ac, vctx)
  if vctx:get(msys.core.VCTX_MESS, "mailfrom_domain") == "refused.example" then
    vctx:set_code(550, "5.7.1 not welcome")
  end
  return msys.core.VALIDATE_CONT
end

function bench:validate_rcptto(msg, str, ac, vctx)
  if vctx:get(msys.core.VCTX_MESS, "rcptto_localpart") == "nobody" then
    vctx:set_code(550, "5.1.1 no such user")
  end
  return msys.core.VALIDATE_CONT
end

function bench:validate_data(msg, ac, vctx)
  vctx:set(msys.core.VCTX_MESS, "seen", "yes")
  return msys.core.VALIDATE_CONT
end

function bench:validate_data_spool(msg, ac, vctx)
  vctx:set(msys.core.VCTX_MESS, "size", msg:get_message_size())
  return msys.core.VALIDATE_CONT
end

function bench:validate_data_spool_each_rcpt(msg, ac, vctx)
  local subject = msg:header("Subject")[1]
  if subject == "drop" then
    msg:discard("550 dropped")
  end
  return msys.core.VALIDATE_CONT
end

function bench:validate_set_binding(msg)
  msg:binding("bulk")
  return msys.core.VALIDATE_CONT
end

msys.registerModule("bench", bench)
