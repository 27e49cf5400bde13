---@meta

---@class msg
---@field batch_id id The id of the reception that the message came from.
---@field conn_id id The id of the session that the message came in on.
---@field id id The id of the message.
---@field recv_method integer How the message came in. Policies that make mail out of mail guard against loops with it.
---@field creation_time table When the message came in.
local msg = {}

---@class ac
---@field remote_addr sockaddr The client's address and port, after PROXY or XCLIENT.
---@field local_addr sockaddr Our address and port of this connection.
---@field conn_id id The id of this session.
---@field protocol integer The protocol of the listener.
local ac = {}

---@class vctx
---@field code integer The code of the verdict as it stands; assigning keeps the note.
---@field note string|nil The text of the verdict.
---@field disconnect integer Assigning 1 marks the session for closing after the reply of this phase, 0 takes the mark off.
local vctx = {}

---@class mc
---@field message msg|nil The message of the present transaction.
---@field ctx vctx|nil The validation context of the session.
local mc = {}

---@class ec_string
---@field buffer string The content as a Lua string.
---@field len integer The length of the content.
---@field length integer The length of the content.
local ec_string = {}

---@alias id any
---@alias sockaddr any

---Adds a line to the capability list of this session, replacing a line with the same key. It shows in the EHLO replies that follow, the one of a running `validate_ehlo` included.
---@param name string|ec_string one line of the EHLO reply, such as `XFOO 1`; the first word is its key
function ac:esmtp_capability_add(name) end

---Removes every line with that key from the capability list of this session. The commands of a built-in extension are then refused.
---@param name string|ec_string the capability; only its first word counts
function ac:esmtp_capability_remove(name) end

---Counts the open sessions from a network to a service.
---@param cidr? string|ec_string `a.b.c.d/n`, an address, `/n` (the peer's network) or nothing (the peer)
---@param service_type? string|ec_string `SMTP` (the default), `Control`, `ECStream`, `HTTP` ..., in any case
---@return integer # the sessions that are open now, this one included
function ac:inbound_session_count(cidr, service_type) end

---`inbound_session_count(mask, service)`.
---@param service? string|ec_string the service
---@param mask? string|ec_string the network, as in `inbound_session_count`
---@return integer # the sessions that are open now
function ac:pbp_inbound_session_count_service(service, mask) end

msys = msys or {}

msys.core = msys.core or {}

---The message construct of an SMTP session: `mc.message` is the message of the transaction, `mc.ctx` the validation context.
---@param ac ac the connection
---@return mc|nil # nil where the session speaks no SMTP
function msys.core.accept_construct_get_message_construct(ac) end

---The family of an address.
---@param address any such as `ac.remote_addr`
---@return integer # `msys.core.AF_INET` or `msys.core.AF_INET6`
function msys.core.ec_sockaddr_family(address) end

---Reads or assigns the binding. Assigning sets the binding's group too.
---@param value? any the name of a binding
---@return string|nil # the binding's name; nil when there is none, or no such binding
function msg:binding(value) end

---Reads the group of the binding, or assigns one binding of a group.
---@param value? any the name of a binding group
---@return string|nil # the group's name; nil when there is none, or no such group
function msg:binding_group(value) end

---Reads or replaces the body. Content-Type and transfer encoding are the caller's to keep right.
---@param ...? string|ec_string the new body; one trailing end-of-data mark is taken off
---@return string|nil # the body, transfer encoding untouched; nil before there is content
---@return string|nil # why not
function msg:body(...) end

---Reads or sets the delivery status text of the message: what logs and reports show. It is not the verdict of a reception.
---@param number? integer the code; 0: the one that the text begins with
---@param string? string|ec_string the text, of one line or several
---@return string|nil # the status text, `421 Too much spam`; nil when there is none
---@return string|nil # why not
function msg:code(number, string) end

---Removes a key.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return integer # 1 when there was such a key, else 0 (which is true in Lua)
function msg:context_delete(type, key) end

---Whether the context has the key.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return integer # 1 or 0 (which is true in Lua)
function msg:context_exists(type, key) end

---`context_exists` and `context_get` in one.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return integer # 1 or 0
---@return string|nil # the value
function msg:context_exists_and_get(type, key) end

---Reads a value. What was set as a number or boolean comes back as text.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return string # the value, or the empty string when there is no such key
function msg:context_get(type, key) end

---Writes a value; it travels with the message.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@param value? string|number|boolean nil changes nothing and is logged
function msg:context_set(type, key, value) end

---Accepts the message and throws it away: the client gets 250, nothing is queued, no report is made.
---@param reason? string|ec_string for the log; where it has no SMTP code it is replaced by the default text
function msg:discard(reason) end

---How the message will be delivered: the configured `delivery_method` for its binding and domain.
---@return string # `esmtp` by default
function msg:get_delivery_method() end

---Takes an address of the envelope apart.
---@param flags integer `EC_MSG_ENV_FROM` or `EC_MSG_ENV_TO`, with `| EC_MSG_ENV_COMPLETE` for the whole address
---@param localpart_str? ec_string receives the local part, or the whole address
---@param domain_str? ec_string receives the domain
---@return integer # 1, or 0 when the address is not set
---@return integer # 1 for the null sender
function msg:get_envelope2(flags, localpart_str, domain_str) end

---The size of the message; follows edits.
---@return integer # octets of headers and body as sent, unstuffed; 0 before there is content
function msg:get_message_size() end

---Reads, sets or removes a header of the top-level block. Values come unfolded and decoded to UTF-8.
---@param hdr string|ec_string the name, in any case, without colon
---@param value? string|string[] the new value or an array of them; the empty string removes the header
---@param mode? string|ec_string `replace` (the default), `append` (below all others) or `prepend` (above)
---@return string[]|boolean # all values when reading; when writing, whether something changed
function msg:header(hdr, value, mode) end

---Our address of the connection that the message came in on.
---@param flag? string|ec_string `all` (the default), `ip` or `port`
---@return string|nil # `10.1.2.3:25`, `::1.25` for IPv6; nil for internal mail
function msg:listener_addr(flag) end

---Reads or changes the sender of the envelope.
---@param value? string|ec_string the new sender; empty for the null sender
---@return string|nil # the bare address, empty for the null sender
---@return string|nil # why not
function msg:mailfrom(value) end

---Reads or replaces the whole message.
---@param value? string|ec_string the new content, headers first
---@return string|nil # the whole message; nil before there is content
---@return integer # its length in octets
function msg:raw(value) end

---Reads or changes the recipient of the envelope. Changing is for messages that have one recipient of their own.
---@param value? string|ec_string the new recipient
---@return string|nil # the bare address; nil before there is a recipient
---@return string|nil # why not
function msg:rcptto(value) end

---The client's address of the connection that the message came in on.
---@param flag? string|ec_string `all` (the default), `ip` or `port`
---@return string|nil # `10.1.2.3:2525`; nil for internal mail
function msg:reception_peer(flag) end

---Reads or sets where the message is routed to; the envelope stays as it is.
---@param ...? string|ec_string a domain, host name or address literal, with `:port` where wanted
---@return string|nil # the domain of the queue, in lower case
---@return string|nil # why not
function msg:routing_domain(...) end

---`msg:code()`.
---@return string|nil # the status text
function msg:get_code() end

---`msg:code(number, string)`.
---@param number? integer the code; 0: the one that the text begins with
---@param string? string|ec_string the text, of one line or several
---@return string|nil # the status text, `421 Too much spam`; nil when there is none
---@return string|nil # why not
function msg:set_code(number, string) end

---The sender as a command.
---@return string # `MAIL FROM:<a@b>` with CRLF
function msg:get_mailfrom() end

---The recipient as a command.
---@return string # `RCPT TO:<a@b>` with CRLF
function msg:get_rcptto() end

---Whether the message is held with several recipients in one.
---@return integer # always 0 here
function msg:is_mcmt() end

---The name of a protocol number.
---@param number integer such as `msg.recv_method`
---@return string|nil # `esmtp`, `internal`, `rest` ...
function msys.core.protocol_string(number) end

---Copies the message with its content and contexts.
---@return msg # an independent message with an id of its own, not queued
function msg:copy() end

---Puts header fields above all others.
---@param msg msg the message
---@param text? string|ec_string whole field lines; nil changes nothing
function msys.core.rfc2822_prepend_headers(msg, text) end

---Whether the running code may wait without holding anybody up.
---@return boolean # false while a script is being loaded
function msys.asyncOk() end

msys.dumper = msys.dumper or {}

---A value as a Lua chunk: tables with their array part first, then their keys in order; on one line where 80 columns suffice. A table that was shown already is `"<cycle>"`.
---@param res? any any value
---@return string # `return ...`
function msys.dumper.Dumper(res) end

---Reads a file. Other sessions go on meanwhile.
---@param filename_or_uri string|ec_string a path or a `file:` URI
---@return string|nil # the whole content
---@return string|nil # why not
function msys.readfile(filename_or_uri) end

---Registers the hooks of a module. Functions added to the table until the end of the script count.
---@param name string|ec_string the module's name, as logs show it
---@param functable table its functions; the keys that name hooks are called as hooks
function msys.registerModule(name, functable) end

---The type of a value.
---@param parameter any any value
---@return string # as Lua's `type`, but engine objects give their class
function msys.type(parameter) end

---Writes a line to paniclog, if the level is on.
---@param level integer `msys.core.LOG_DEBUG` to `LOG_CRITICAL`
---@param text any the line
function msys.core.log(level, text) end

---Our host name.
---@return string # the option `hostname`, by default the system's name
function gethostname() end

---The time.
---@return integer # seconds since the epoch
function msys.core.get_now_ts() end

---Makes an empty message.
---@param now? any ignored: the message's time is now
---@return msg # an empty message of the policy's own
function msys.core.ec_message_new(now) end

---The class of objects: what is added to its `__index` becomes a method of all of them. Built-in methods cannot be replaced.
---@param classnamestring string|ec_string such as `msys.core:_ec_message`
---@return table|nil # nil for an unknown class
function msys.getClassMetaTable(classnamestring) end

msys.pbp = msys.pbp or {}

---Looks for the keys `dp_whitelist_<name>` in both contexts.
---@param vctx vctx the validation context
---@param conf? string|string[] a list name, an array of them, or a table with such an array as `honor_whitelist`
---@return boolean # whether the session or message is on one of the lists
function msys.pbp.check_whitelist(vctx, conf) end

---Sets or deletes the key `dp_whitelist_<name>`.
---@param vctx vctx the validation context
---@param type any the context; where it is left out, that of the connection before MAIL, else the message's
---@param name? any the list
---@param value? any true puts it on the list, false or nil takes it off
function msys.pbp.set_whitelist(vctx, type, name, value) end

---Reads a size; the units are powers of 1024.
---@param value string|ec_string a number, or text such as `10M`, `512k`, `1 GB`
---@return number # octets
function msys.pbp.size_in_bytes(value) end

---A growable byte string: what functions of the engine fill, as `msg:get_envelope2` does.
---@return ec_string # empty
function msys.core.string_new() end

msys.pcre = msys.pcre or {}

---The first match: `[0]` is all of it, `[1]` and on its groups; named groups stand under their names too.
---@param str string|ec_string the subject
---@param pattern string|ec_string the pattern
---@return table|nil # nil when nothing matches or on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msys.pcre.match(str, pattern) end

---The subject with its matches replaced.
---@param subject string|ec_string the subject
---@param pattern string|ec_string the pattern
---@param replacement any a string with `$1`, `${name}`, `\1`, or a function that is called with each match
---@param limit? integer how many at most; -1 or nothing: all
---@return string|nil # nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msys.pcre.replace(subject, pattern, replacement, limit) end

---The pieces between the matches; empty pieces never appear.
---@param subject string|ec_string the subject
---@param pattern string|ec_string the separator
---@param limit? integer how many pieces at most; the last has the rest
---@return table|nil # nil when nothing matches or on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msys.pcre.split(subject, pattern, limit) end

---Appends to an ec_string.
---@param ecstr ec_string the string
---@param s string|ec_string what to append
---@param n? integer how many octets of it
---@return integer # octets written
function msys.core.stringwrite(ecstr, s, n) end

---Replaces the content.
---@param str string|ec_string the new content
function ec_string:set(str) end

---Appends.
---@param str string|ec_string what to append
---@param n? integer how many octets of it
---@return integer # octets written
function ec_string:write(str, n) end

---Empties it.
function ec_string:clear() end

---Suspends the caller. Other sessions go on; the client of this one waits.
---@param duration_in_seconds number fractions are allowed; 0 lets others run once
function msys.sleep(duration_in_seconds) end

---Adds to the recipients of the transaction; one that is in the list is not added again. Added ones skip `validate_rcptto` and the relay check.
---@param address string|string[] one address or an array of them, bare or in angle brackets
function vctx:add_recipient(address) end

---Sets the verdict, and closes the session once the reply of this phase has been sent.
---@param code? integer the code of the reply; 421 where it is left out
---@param message? string|ec_string its text
function vctx:disconnect(code, message) end

---Reads from the context of the connection or of the message.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return string # the value, or the empty string when there is no such key
function vctx:get(type, key) end

---The recipients of the transaction; with an argument, replaces them first.
---@param addresses? string|string[] the new list
---@return string[] # the bare addresses, in order of acceptance
function vctx:recipient_list(addresses) end

---Removes recipients of the transaction. The client was told that they are accepted; no report is made.
---@param address string|string[] one address or an array of them
function vctx:remove_recipient(address) end

---Writes to the context of the connection or of the message.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@param value? string|number|boolean nil changes nothing and is logged
function vctx:set(type, key, value) end

---Sets the verdict of the phase. The last call counts; 2xx takes an earlier refusal back. Later hooks still run: return `msys.core.VALIDATE_DONE` to stop them.
---@param codenum integer 200 to 599, but 334 and 354
---@param message? string|ec_string the text of the reply; several lines make a multi-line reply
function vctx:set_code(codenum, message) end

---Delays the reply of this phase. Several calls add up; the policy itself goes on at once.
---@param interval number seconds; fractions are allowed
function vctx:tarpit(interval) end

---Whether the context has the key.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return integer # 1 or 0
function vctx:exists(type, key) end

---`exists` and `get` in one.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return integer # 1 or 0
---@return string|nil # the value
function vctx:exists_and_get(type, key) end

---Removes a key.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key, case-sensitive
---@return integer # 1 when there was such a key, else 0
function vctx:delete(type, key) end

---`set_code`, for `return vctx:pbp_action(...)`.
---@param code integer as in `set_code`
---@param message? string|ec_string its text
---@return integer # `msys.core.VALIDATE_DONE`
function vctx:pbp_action(code, message) end

---`disconnect`, for `return vctx:pbp_disconnect(...)`.
---@param code? integer as in `disconnect`
---@param message? string|ec_string its text
---@return integer # `msys.core.VALIDATE_DONE`
function vctx:pbp_disconnect(code, message) end

---Whether the recipient list may be changed in this hook.
---@return integer # 1 or 0
function vctx:can_modify_rcpts() end
