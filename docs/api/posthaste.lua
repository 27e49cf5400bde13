---@meta

---@class msg
---@field batch_id id The id of the reception that the message came from.
---@field conn_id id The id of the session that the message came in on.
---@field id id The id of the message.
---@field recv_method integer How the message came in. Policies that make mail out of mail guard against loops with it.
---@field creation_time table When the message came in.
---@field priority integer Whether the message goes before others of its queue.
---@field delivered integer What has become of the message, in the words of a hook of `core_ec_message_enqueue` that takes it over.
---@field invalid_mime integer Whether the MIME structure of a message in memory is broken.
---@field num_retries integer How often delivery was tried again.
---@field next_attempt table When delivery is due.
local msg = {}

---@class msgpart
---@field thread msgpart|nil The next part in document order, depth first.
---@field next msgpart|nil The next part of the same container.
---@field parent msgpart|nil The part that this one is in.
---@field parts msgpart|nil The first part inside: nil for leaves.
---@field boundary string|nil What delimits the parts of a container.
---@field encoding integer|nil The transfer encoding: one of `msys.core.EC_MIME_TE_*`.
---@field type string The media type in lower case, without parameters.
---@field headers_start integer Where the part's header begins.
---@field preamble_start integer Where the part's body begins, with a container's preamble.
---@field body_start integer Where the content begins: a leaf's body, or a container's first delimiter. For a part that `msg:makePart` has made and nobody has linked it counts in the given body, and can be set.
---@field body_end integer Where the content ends: a leaf's body, or a container's last delimiter. It can be set where `body_start` can.
---@field epilogue_end integer Where the part ends, with a container's epilogue.
local msgpart = {}

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

msys.idn = msys.idn or {}

---The ASCII form of a domain name.
---@param name string|ec_string a domain name in UTF-8
---@return string|nil # the name in lower case with `xn--` labels
---@return string|nil # why not
function msys.idn.to_idn(name) end

---The Unicode form of a domain name. Labels that are not `xn--` labels stay as they are.
---@param name string|ec_string a domain name
---@return string|nil # the name with its `xn--` labels decoded
---@return string|nil # why not
function msys.idn.to_utf8(name) end

json = json or {}

---Reads a JSON text. Comments and strings in single quotes are read too.
---@param str string|ec_string the text; what follows its first value is ignored
---@return json|nil # the value; members read from it are Lua strings, numbers, booleans, or further json objects
---@return integer|nil # on failure one of `json.ERROR_*`; 0 for the text `null`
---@return string|nil # what is wrong, and at which offset
function json.decode(str) end

---Makes a JSON value of a Lua value. A table with an element 1 becomes an array up to its first nil, any other an object.
---@param obj any a string, number, boolean, table, or a json object (which comes back as it is)
---@return json # `tostring` gives its text
function json.encode(obj) end

---Makes an empty object. With an argument it does what `json.encode` does.
---@param obj? any as with `json.encode`
---@return json # an empty object where nothing is given
function json.new(obj) end

---The text of an error code.
---@param code number an error code of `decode`
---@return string # `unknown error` for any other number
function json.strerror(code) end

---Does nothing: values are collected.
---@param obj any a json object
function json.free(obj) end

---Does nothing: values are collected.
---@param obj any a json object
---@return boolean # true
function json.addref(obj) end

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

---The first match in the body, which is not decoded and ends in the mark `.` CRLF.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@return table|boolean|nil # the match as `msys.pcre.match` gives it; false when there is none; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msg:body_match(pattern) end

---Replaces every match in the body. Content-Type and transfer encoding are the caller's to keep right.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@param replacement string|ec_string with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it
---@return boolean|nil # whether something changed; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msg:body_replace(pattern, replacement) end

---Fills an empty message, as `msys.core.ec_message_new` makes one. Date and Message-ID are added where they are missing.
---@param headers table name to value, or to an array of values; those of MIME are ignored
---@param parts table content type to text: the same text in several forms
---@param attachments any nil, or an array of tables with `type`, `name`, `headers` and `content`: a string, an io object or a message
---@return boolean # true
function msg:build(headers, parts, attachments) end

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
---@param value string|number|boolean|nil nil changes nothing and is logged
function msg:context_set(type, key, value) end

---Accepts the message and throws it away: the client gets 250, nothing is queued, no report is made.
---@param reason? string|ec_string for the log; where it has no SMTP code it is replaced by the default text
function msg:discard(reason) end

---Sends a new message with this one attached to each address, as internal mail. This one goes its own way.
---@param sender string|ec_string the sender; empty for the null sender
---@param rcptto string|ec_string one address or several, with commas between them
---@param text string|ec_string what the new message says
---@param subject? string|ec_string by default `Fwd: ` and the subject of this message
---@param charset? string|ec_string of the text, which is given in UTF-8
---@return boolean|nil # true once every message is on stable storage
---@return string|nil # why nothing was sent
function msg:forward(sender, rcptto, text, subject, charset) end

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

---Sends a copy of the message to each address, as internal mail. The message itself stays as it is and goes its own way.
---@param mailfrom string|ec_string the sender; empty for the null sender
---@param rcptto string|ec_string one address or several, with commas between them
---@return boolean # true once every copy is on stable storage; false: nothing was sent
---@return string|nil # why not
function msg:inject(mailfrom, rcptto) end

---Our address of the connection that the message came in on.
---@param flag? string|ec_string `all` (the default), `ip` or `port`
---@return string|nil # `10.1.2.3:25`, `::1.25` for IPv6; nil for internal mail
function msg:listener_addr(flag) end

---Reads or changes the sender of the envelope.
---@param value? string|ec_string the new sender; empty for the null sender
---@return string|nil # the bare address, empty for the null sender
---@return string|nil # why not
function msg:mailfrom(value) end

---A boundary that occurs in no part of the message and of the given parts' messages.
---@param ... any parts of other messages that it is to delimit as well
---@return string # of at most 70 characters
function msg:makeBoundary(...) end

---Makes a multipart.
---@param mimetype string|ec_string such as `multipart/mixed`, with parameters or without
---@param boundary? string|ec_string what delimits its parts; a new one where left out
---@param add_terminator? any of no effect: a message's end-of-data mark is no content
---@return msgpart # linked to nothing, and empty
function msg:makeContainer(mimetype, boundary, add_terminator) end

---Makes a leaf. Octets above 127 in a body that is declared as 7bit are declared as 8bit.
---@param mimetype string|ec_string such as `text/plain; charset=utf-8`; no multipart
---@param body? any a string or an io object, in the transfer encoding that the next argument declares
---@param encoding? integer one of `msys.core.EC_MIME_TE_*`: 7bit where left out
---@return msgpart # linked to nothing
function msg:makePart(mimetype, body, encoding) end

---The parts of the message. Its field `thread` leads from part to part. A message that is no MIME is one text part; beyond 100 levels and 10,000 parts, parts are not taken apart.
---@param readonly? any false: the parts can be changed
---@return msgpart|nil # the top of the tree; nil before there is content
---@return string|nil # why not, where the body cannot be read
function msg:mime(readonly) end

---Reads or replaces the whole message.
---@param value? string|ec_string the new content, headers first
---@return string|nil # the whole message; nil before there is content
---@return integer # its length in octets
function msg:raw(value) end

---The first match in headers and body; every match, up to 10,000 of them, is in its field `all`.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@return table|boolean|nil # the match as `msys.pcre.match` gives it; false when there is none; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msg:raw_match(pattern) end

---Replaces every match in headers and body; what comes out is taken apart anew.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@param replacement string|ec_string with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it
---@return boolean|nil # whether something changed; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msg:raw_replace(pattern, replacement) end

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

---The text of the message's text parts in UTF-8, in the order of the message, attachments included.
---@overload fun(self: msg, value: string|ec_string, type?: string|ec_string, charset?: string|ec_string): boolean|nil
---@param ... any nothing; see the other form
---@return string|string[]|boolean|nil # the text; an array where several parts have one; nil where none has
---@return string|nil # why not
function msg:text(...) end

---The first match in the decoded text of the text parts, one after the other; the field `part` of the match says in which of them, from 1. The text of a message of one part ends in the mark `.` CRLF.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@return table|boolean|nil # the match as `msys.pcre.match` gives it; false when there is none; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msg:text_match(pattern) end

---Replaces every match in the decoded text of the text parts. What changed is written back in its own charset and transfer encoding; what did not keeps its octets.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@param replacement string|ec_string with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it
---@return boolean|nil # whether something changed; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msg:text_replace(pattern, replacement) end

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

---Copies the message with its content and contexts. Binding and routing domain are not copied: they are those of one recipient.
---@return msg # an independent message with an id of its own, not queued
function msg:copy() end

---Puts header fields above all others.
---@param msg msg the message
---@param text? string|ec_string whole field lines; nil changes nothing
function msys.core.rfc2822_prepend_headers(msg, text) end

msys.delivery = msys.delivery or {}

---The message that an outbound session is delivering.
---@param sess any `sess.connh` of a hook of HTTP delivery, or `sess` itself
---@return msg|nil # its content is read-only; nil once the attempt is over
function msys.delivery.ob_get_current_message(sess) end

---The message as it is now, to look at later or elsewhere. It shares the octets of this one.
---@return msg # its content cannot be changed
function msg:snapshot() end

---Lets go of a snapshot or of a message of the policy's own before its collection; using it afterwards raises.
function msg:free() end

---The message as it goes over the wire: dots stuffed, with the mark of the end of data; the flags take from it.
---@param str? ec_string receives the rendition; may be nil where only the length is asked for
---@param flags? integer sum of `msys.core.EC_MSG_RENDER_*`; 0 where left out
---@return integer|nil # octets of the rendition
---@return string|nil # why not
function msg:render_to_string(str, flags) end

---A resource that a module of the reference attaches to a message.
---@param name string|ec_string of the resource
---@return nil # messages have no resources here
function msg:rsrc_get(name) end

---The addresses in every header of that name.
---@param headername string|ec_string the name, in any case
---@param component? string|ec_string `all` (the default), `localpart`, `user`, `detail` or `domain`
---@return string[] # in order, groups taken apart
function msg:address_header(headername, component) end

---The first key of a context.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@return string|nil # nil when the context is empty
function msg:context_firstkey(type) end

---The key after another one.
---@param type integer `msys.core.VCTX_CONN` or `msys.core.VCTX_MESS`
---@param key string|ec_string the key before it
---@return string|nil # nil at the end, or when the key is not there
function msg:context_nextkey(type, key) end

---Fills a message octet by octet. A final end-of-data mark is taken off when it is closed.
---@param msg msg the message to fill, as `ec_message_new` makes one
---@param size_hint? integer octets to make room for
---@return io # `write(s, [n])` appends, `close()` makes the message of what was written
function msys.core.ec_message_builder(msg, size_hint) end

---Makes a part the first one of this container. A part of another message is copied. A boundary that occurs in the new part gives way to another one.
---@param child msgpart a part that is linked to nothing
---@return boolean # false: this is no container, or the child is linked already, or this is inside of it
function msgpart:addFirstChild(child) end

---Makes a part the last one of this container. A part of another message is copied. A boundary that occurs in the new part gives way to another one.
---@param child msgpart a part that is linked to nothing
---@return boolean # false: this is no container, or the child is linked already, or this is inside of it
function msgpart:addLastChild(child) end

---The mailboxes of every header of that name in this part, those of groups among them.
---@param headername string|ec_string the name, in any case, without colon
---@param component? string|ec_string `all` (the default), `localpart`, `user`, `detail` or `domain`
---@return string[] # one entry for each mailbox
function msgpart:address_header(headername, component) end

---The first match in the part's body, which is not decoded; in a container's with all that is inside of it.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@return table|boolean|nil # the match as `msys.pcre.match` gives it; false when there is none; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msgpart:body_match(pattern) end

---Replaces every match in the part's body. Content-Type and transfer encoding are the caller's to keep right. What is inside of a container is taken apart anew.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@param replacement string|ec_string with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it
---@return boolean|nil # whether something changed; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msgpart:body_replace(pattern, replacement) end

---What the part's header says of its body: `mimetype`, `charset` and `encoding` in lower case, with the defaults where it says nothing. `filename` comes from Content-Disposition, else from Content-Type; with one, or with the disposition `attachment`, `is_attachment` is true.
---@return table # fields `mimetype`, `charset`, `encoding`, `filename` and `is_attachment`
function msgpart:content_type() end

---Reads a header of this part. Values come unfolded and decoded to UTF-8.
---@overload fun(self: msgpart, name: string|ec_string, nil: any): boolean
---@overload fun(self: msgpart, name: string|ec_string, value: string|string[], mode?: string|ec_string): boolean
---@param name string|ec_string the name, in any case, without colon
---@return string[]|boolean # every value, in order; in the other forms, whether something changed
function msgpart:header(name) end

---Links this part, which is linked to nothing, behind another one.
---@param after msgpart a part of a container
---@return boolean # false: this part is linked already, or the other one is in no container
function msgpart:insertAfter(after) end

---Links this part, which is linked to nothing, in front of another one.
---@param before msgpart a part of a container
---@return boolean # false: this part is linked already, or the other one is in no container
function msgpart:insertBefore(before) end

---The first match in the part's header and body; every match, up to 10,000 of them, is in its field `all`.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@return table|boolean|nil # the match as `msys.pcre.match` gives it; false when there is none; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msgpart:raw_match(pattern) end

---Replaces every match in the part's header and body; what comes out is taken apart anew.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@param replacement string|ec_string with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it
---@return boolean|nil # whether something changed; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msgpart:raw_replace(pattern, replacement) end

---The text of this part in UTF-8.
---@overload fun(self: msgpart, value: string|ec_string, type?: string|ec_string, charset?: string|ec_string): boolean|nil
---@param ... any nothing; see the other form
---@return string|boolean|nil # nil for other types than text, containers and empty parts
---@return string|nil # why not
function msgpart:text(...) end

---The first match in the decoded text of this part, or of the text parts in this container, one after the other; the field `part` of the match says in which of them, from 1.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@return table|boolean|nil # the match as `msys.pcre.match` gives it; false when there is none; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msgpart:text_match(pattern) end

---Replaces every match in the decoded text of this part, or of the text parts in this container. What changed is written back in its own charset and transfer encoding.
---@param pattern string|ec_string a Perl pattern, as `msys.pcre.match` takes it
---@param replacement string|ec_string with `$1`, `${name}` and `$0`, as `msys.pcre.replace` takes it
---@return boolean|nil # whether something changed; nil on an error
---@return string|nil # what is wrong
---@return integer|nil # its place in the pattern, or its number
function msgpart:text_replace(pattern, replacement) end

---Takes the part out of its container, with what is inside of it; it can be linked elsewhere then. The top of a message cannot be taken out.
function msgpart:unlink() end

---Whether the running code may wait without holding anybody up.
---@return boolean # false while a script is being loaded
function msys.asyncOk() end

msys.dumper = msys.dumper or {}

---A value as a Lua chunk: tables with their array part first, then their keys in order; on one line where 80 columns suffice. A table that was shown already is `"<cycle>"`.
---@param res any any value
---@return string # `return ...`
function msys.dumper.Dumper(res) end

---Reads a file. Other sessions go on meanwhile.
---@param filename_or_uri string|ec_string a path or a `file:` URI
---@return string|nil # the whole content
---@return string|nil # why not
function msys.readfile(filename_or_uri) end

---Adds a command to the console. What the function prints is the answer, and a string that it returns is appended. The command goes away with the configuration that made it; `authorization` holds for it as for any other.
---@param prefix string|ec_string the command's first word or words, in any case; the longest one that fits is run
---@param closure any a function that is called with `cc`: `cc.argc` is the number of words, the command's own included, and `cc.argv` has them from 0, without quotes
function msys.registerControl(prefix, closure) end

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

---Makes an empty message.
---@param now? any ignored: the message's time is now
---@return msg # an empty message of the policy's own
function msys.core.ec_message_new(now) end

---The class of objects: what is added to its `__index` becomes a method of all of them. Built-in methods cannot be replaced.
---@param classnamestring string|ec_string such as `msys.core:_ec_message`
---@return table|nil # nil for an unknown class
function msys.getClassMetaTable(classnamestring) end

---The mailboxes of an address list, those of groups among them. Comments and routes are dropped, and so is what cannot be read. The user ends and the detail begins at the first `+` of the local part.
---@param addressstring string|ec_string an address list as it stands in a header field
---@param component any `all` (also where left out), `localpart`, `user`, `detail` or `domain`
---@return string[] # one entry for each mailbox
function msys.parseRFC2822Addresses(addressstring, component) end

---The same object, if it is of that class; anything else raises, as does a class that there is not.
---@param object any an object of the engine
---@param classnamestring string|ec_string such as `msys.core:_ec_message`
---@return any # the object
function msys.cast(object, classnamestring) end

---Runs a command on the configuration. `get` looks in the named scope only, `eval` as the server does, `set` and `unset` act at once. Times are in seconds.
---@param action string|ec_string `get`, `eval`, `set`, `unset`, `show` ...
---@param parameters any scopes and their names, then the option, then a value, each a string of its own
---@return any # the value: a number, string, boolean, array or table; nil where there is none or on failure
---@return string # what the console prints
function msys.config(action, parameters) end

---Asks the DNS through the server's cache; aliases are followed. Other sessions go on meanwhile. The strings of one TXT record are joined; names have no final dot.
---@param name string|ec_string the name; for PTR an address may stand for its `arpa` name
---@param recordtype? string|ec_string `A` (where left out), `AAAA`, `TXT`, `MX`, `PTR` or `NS`, in any case
---@param options? table `priority = true`: MX as `{preference, host}`; `server`: ask this one
---@return table|nil # the values, MX best first; empty where the name exists without such records
---@return string|nil # `NXDOMAIN`, `SERVFAIL`, `REFUSED`, `FORMERR`, `NOTIMP` or `TIMEOUT`
function msys.dnsLookup(name, recordtype, options) end

---The record of a routing domain. Nothing is looked up and nothing is queued.
---@param domain any a routing domain
---@return domain_record|nil # with `domain`, `deliveries`, `attempts`, `transients`, `failures`, `mxcnt`, `dns_failures` and `last_delivery.tv_sec`, each as it is when read; nil where it is no domain name
function msys.core.dns_get_domain(domain) end

---Delays every active message of a domain, of all bindings, as if an attempt had failed with `note`. Messages that are under way go on.
---@param dr any a domain record
---@param note any the reply that the messages get; nil: `451 4.4.1 [internal] manually delayed domain`
---@return nil # nothing
function msys.core.mail_queue_delay_domain(dr, note) end

---Expands macros: `vctx_conn:KEY`, `vctx_mess:KEY`, `rfc822:date`, `rfc2822:message`, `headers`, `body`, `text` and `part` (with `,N` lines or `,Nb` octets, or the number of a part), and `spfv1:` with the letters of SPF, which also stand alone. One that is not known stays as it is.
---@param string string|ec_string text with `%{namespace:argument}` in it; `%%` is a percent sign
---@return string # the text with what the macros stand for
function msys.expandMacro(string) end

---The shared value of a key.
---@deprecated
---@param keystring string|ec_string the key
---@return string|number|boolean|nil # nil where nothing is set
function msys.shareGet(keystring) end

---Shares a value with every policy of the process; it survives a reload, not a restart. One call is atomic; what reads, changes and writes takes `msys.lock`.
---@deprecated
---@param keystring any the key
---@param value any a string, number or boolean; nil unsets
---@return boolean # false where the key is no string or is empty
function msys.shareSet(keystring, value) end

---Forgets a shared value; a key that is not set is no error.
---@deprecated
---@param keystring string|ec_string the key
function msys.shareUnset(keystring) end

---The slot of a binding, as `core_binding_group_choose_binding` returns it. A reload may change it.
---@param name string|ec_string the name of a binding
---@return integer # its slot; -1 when there is no such binding
function msys.core.config_get_binding_id_from_name(name) end

---The name of the binding in a slot.
---@param id integer a slot
---@return string|nil # the binding's name; nil when the slot is of no binding
function msys.core.config_get_binding_name_from_id(id) end

---The size of a binding group.
---@param group string|ec_string the name of a binding group
---@return integer # how many bindings it has; 0 when there is no such group
function msys.core.config_get_binding_group_size(group) end

msys.tls_params = msys.tls_params or {}

---Sets a TLS parameter of a connection: the same as assigning the field.
---@param tls_params any what a hook that may change TLS was given
---@param param string|ec_string `certfile`, `keyfile`, `ca`, `cipherlist` or `tls_verify`
---@param val string|ec_string the value, for this connection alone
function msys.tls_params.set(tls_params, param, val) end

msys.pbp = msys.pbp or {}

---Sets `reverse_dns` (the confirmed name, else the first one, else nothing) and `fcdns_status` (`true` or `false`) in the context of the connection.
---@param ac ac the connection
---@param vctx vctx its validation context
---@return boolean # whether a name of the client's address has this address
---@return string|nil # why its names could not be found: `NXDOMAIN`, `SERVFAIL`, `TIMEOUT` ...
---@return string|nil # why no address of its names could be found
function msys.pbp.fcdns_check(ac, vctx) end

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

msys.os = msys.os or {}

---The last sample of a file system.
---@param path any what `statvfs_subscribe` returned; a path is subscribed to and stays so
---@return statvfs|nil # a snapshot: `kilobytes_available`, `kilobytes_total`, `objects_available`, `objects_total`, `version`
---@return string|nil # why the file system could not be asked
function msys.os.statvfs_read(path) end

---Has a file system sampled in the background. The first sample has been taken when it returns.
---@param path string|ec_string anything on the file system; it need not exist yet
---@param interval number seconds between samples; 0: 5 seconds
---@return statvfs_record # for `statvfs_read`; the sampling ends when it is collected
function msys.os.statvfs_subscribe(path, interval) end

---The time.
---@return integer # seconds since the epoch
function msys.core.get_now_ts() end

---Opens a file. What the handle does happens outside of the policy's state: other sessions go on. One `write` is one piece in the file, whoever else writes.
---@param filename string|ec_string a path or a `file:` URI
---@param options? integer sum of `msys.core.O_*`; `O_APPEND` and `O_TRUNC` imply writing
---@param mode? integer permissions of a new file, 0644 where left out; the umask applies
---@return io|nil # a handle: `write(s, [len])`, `read([n])`, `lseek(offset, whence)`, `flush()`, `close()`
---@return string|nil # why not
---@return integer|nil # the number of the system's error
function msys.core.io_wrapper_open(filename, options, mode) end

---A growable byte string: what functions of the engine fill, as `msg:get_envelope2` does.
---@return ec_string # empty
function msys.core.string_new() end

msys.base64 = msys.base64 or {}

---Decodes base64. Anything that is no base64 raises, as does text that is not valid in the charset.
---@param encoded_text string|ec_string blanks and line ends in it are skipped; the padding may be missing
---@param charset? string|ec_string what the decoded text is written in; it is converted to UTF-8
---@return string # the octets, untouched where no charset is given
function msys.base64.decode(encoded_text, charset) end

---Encodes in base64. Characters that the charset lacks raise.
---@param original string|ec_string what to encode
---@param fold? any true: a line break after every 76 characters, none at the end
---@param charset? string|ec_string convert from UTF-8 to this charset first
---@return string # the code
function msys.base64.encode(original, fold, charset) end

msys.qp = msys.qp or {}

---Decodes quoted-printable. An `=` that begins no code and ends no line raises.
---@param encoded_txt string|ec_string the code
---@param charset? string|ec_string what the decoded text is written in; it is converted to UTF-8
---@return string # the octets, untouched where no charset is given
function msys.qp.decode(encoded_txt, charset) end

---Encodes in quoted-printable. Line ends become CRLF.
---@param original any a string, or a handle of `io_wrapper_open` that is read to its end
---@param charset? string|ec_string convert from UTF-8 to this charset first
---@param dotstuffing? any true: double a dot that a line break of the encoding brings to the start of a line
---@return string # the code, in lines of at most 76 characters
function msys.qp.encode(original, charset, dotstuffing) end

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

---Takes the lock of that name, waiting in turn while another task has it: a hook call, a job, a timer's or the console's call. It may be held over waits, and is given back at the end of the task. Taking it twice raises, as does a wait that could never end.
---@param mutexname string|ec_string any string
---@return boolean # true
function msys.lock(mutexname) end

---Runs a function when the pool has room. A job that the caller waits for is in its phase; any other begins when the caller has ended or waits. With `msys.core.ECTP_COMPLETE_CALLBACK_SCHED` as fourth argument the function of completion runs outside of the pool.
---@param pool any the name of a thread pool, in any case, or its number
---@param closure any what to run
---@param ...? any true: do not wait; a function: do not wait, and call it with what came of it
---@return any # true and the results, or false and the error; nothing where it does not wait
function msys.runInPool(pool, closure, ...) end

---Suspends the caller. Other sessions go on; the client of this one waits.
---@param duration_in_seconds number fractions are allowed; 0 lets others run once
function msys.sleep(duration_in_seconds) end

msys.threadpool = msys.threadpool or {}

---How many thread pools there are.
---@return integer # those that always exist and those of the configuration
function msys.threadpool.count() end

---Finds a thread pool.
---@param threadpoolname? any a name, or a number
---@param jobclassID? any not looked at: the first argument may be either
---@return integer|string|nil # the number of a name, or the name of a number; nil where there is none
function msys.threadpool.find(threadpoolname, jobclassID) end

---The numbers of a thread pool as they are now; `tostring` gives them as lines.
---@param threadpoolname? any a name, or a number
---@param jobclassID? any not looked at: the first argument may be either
---@return table|nil # `name`, `invocations`, `avg_concurrency`, `saturation` (percent), `avg_wallclock_time_per_op` (ms), `queue_sz`, `num_threads`, `num_active_threads`, `num_inactive_threads`, `job_num_queued`, `job_num_running`
function msys.threadpool.stat(threadpoolname, jobclassID) end

---Gives a lock back. One that this task does not hold raises.
---@param mutexname string|ec_string the name of a lock that this task has taken
---@return boolean # true
function msys.unlock(mutexname) end

thread = thread or {}

---Makes a mutex. Its owner is a task, as with `msys.lock`; a wait that could never end raises.
---@param type? integer `thread.MUTEX_ERRORCHECK` (where left out), `thread.MUTEX_RECURSIVE` or `thread.MUTEX_NORMAL`
---@return mutex # with `lock()`, `trylock()` (true, or the number 16 where it is taken) and `unlock()`
function thread.mutex(type) end

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
---@param value string|number|boolean|nil nil changes nothing and is logged
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
