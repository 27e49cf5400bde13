//! Parts of messages in the running server: what a policy edits is what the next host reads, and nothing else has changed.

mod common;

use common::next_hop::NextHop;
use common::{Client, Server};

fn server(policy: &str, next: &NextHop) -> Server {
    let extra = format!(
        "Relay_Domains = ( rcpt.test )\nGateway = \"{}\"\nLarge_Message_Threshold = 100000\n\
         scriptlet \"scriptlet\" {{ script \"policy\" {{ source = \"policy\" }} }}\n\
         ESMTP_Listener {{ Listen \"127.0.0.1:0\" {{}} }}\n",
        next.gateway()
    );
    Server::start(&extra, &[("policy.lua", policy)])
}

/// A disclaimer under mail of one part and of several, as policies add it.
const DISCLAIMER: &str = r#"
require("msys.core")
require("msys.extended.message")
local mod = {}
function mod:validate_data(msg)
  local top = msg:mime(false)
  if top.parts != nil then
    local part = msg:makePart("text/plain", "Disclaimer")
    part.body_start = 0
    part.body_end = 10
    top:addLastChild(part)
  else
    msg:text_replace("\r\n.\r\n", "Disclaimer\r\n.\r\n")
  end
  return msys.core.VALIDATE_CONT
end
function mod:validate_data_spool_each_rcpt(msg)
  if msg:rcptto() == "dots@rcpt.test" then msg:mime(false):text(".\r\nx\r\n..\r\n") end
  return msys.core.VALIDATE_CONT
end
msys.registerModule("disclaimer", mod)
"#;

#[test]
fn a_disclaimer_is_added_and_the_rest_stays_to_the_octet() {
    let next = NextHop::start();
    let server = server(DISCLAIMER, &next);
    let mut client = Client::hello(server.smtp());
    // The last one lies in a file of the spool.
    let long = format!("{}\r\n", "0123456789 ".repeat(90)).repeat(150);
    for (address, head, body, expected) in [
        ("one@rcpt.test", "", "hi\r\n", "hiDisclaimer\r\n"),
        (
            "two@rcpt.test",
            "Content-Type: multipart/mixed;\r\n\tboundary=b\r\n",
            "pre\r\n--b \r\nX-Odd:\ttab \r\n\r\n.dot\r\n--b--\r\nepilogue\r\n",
            "pre\r\n--b \r\nX-Odd:\ttab \r\n\r\n.dot\r\n--b\r\nContent-Type: text/plain\r\n\r\nDisclaimer\r\n--b--\r\nepilogue\r\n",
        ),
        ("dots@rcpt.test", "", "hi\r\n", ".\r\nx\r\n..\r\n"),
        (
            "long@rcpt.test",
            "Content-Type: multipart/mixed; boundary=b\r\n",
            &format!("--b\r\n\r\n{long}\r\n--b--\r\n"),
            &format!("--b\r\n\r\n{long}\r\n--b\r\nContent-Type: text/plain\r\n\r\nDisclaimer\r\n--b--\r\n"),
        ),
    ] {
        let content = format!("From: a@b.test\r\nSubject: parts\r\n{head}\r\n{body}");
        let lines = content.trim_end().replace("\r\n", "\n");
        let reply = client.deliver("a@b.test", &[address], &lines);
        assert!(reply.starts_with("250"), "{address}: {reply}");
        let taken = next.wait_for_rcpt(address);
        assert_eq!(taken.body(), expected, "{address}");
        assert!(taken.content().contains(&format!("Subject: parts\r\n{head}")), "{address}: {}", taken.content());
    }
}
