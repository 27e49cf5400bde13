-- The demo's policy: what a policy author does every day, in forty lines.
-- Each function below is a hook: Posthaste calls it at its moment in the life of a message.

require("msys.core")

local policy = {}

-- A new client said MAIL FROM. `vctx` is the session's memory and its verdict.
function policy:validate_mailfrom(str, ac, vctx)
  local domain = vctx:get(msys.core.VCTX_MESS, "mailfrom_domain")
  if domain == "spammer.example" then
    vctx:set_code(550, "5.7.1 mail from " .. domain .. " is not welcome here")
  end
  return msys.core.VALIDATE_CONT
end

-- A recipient. Returning is accepting, unless a code says otherwise.
function policy:validate_rcptto(msg, str, ac, vctx)
  if vctx:get(msys.core.VCTX_MESS, "rcptto_localpart") == "nobody" then
    vctx:set_code(550, "5.1.1 no such user")
  end
  return msys.core.VALIDATE_CONT
end

-- The whole message is here, once for each recipient: the place to read and rewrite it.
function policy:validate_data_spool_each_rcpt(msg, ac, vctx)
  local subject = msg:header("Subject")[1] or ""
  if subject:find("^%[test%]") then
    msg:discard("550 test mail goes nowhere")
    return msys.core.VALIDATE_DONE
  end
  msg:header("X-Internal-Route", "")                        -- an empty value removes: what is ours stays ours
  msg:header("X-Posthaste-Demo", "seen by " .. msg:rcptto(), "prepend")
  msg:context_set(msys.core.VCTX_MESS, "stream", subject:find("Newsletter") and "marketing" or "transactional")
  return msys.core.VALIDATE_CONT
end

-- Which source address sends it?
function policy:validate_set_binding(msg)
  if msg:context_get(msys.core.VCTX_MESS, "stream") == "marketing" then
    msg:binding_group("marketing")
  else
    msg:binding("transactional")
  end
  return msys.core.VALIDATE_CONT
end

msys.registerModule("welcome", policy)
