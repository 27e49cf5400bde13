use super::*;
use crate::server::testing::settings;

const ALL: [&str; 5] = ["DSN", "SMTPUTF8", "CHUNKING", "BINARYMIME", "AUTH PLAIN"];

fn settings_with(extensions: &[&str], change: impl Fn(&mut Settings)) -> Settings {
    let mut settings = settings();
    settings.extensions = extensions.iter().map(|&text| text.to_owned()).collect();
    change(&mut settings);
    settings
}

fn mail_in(settings: &Settings, argument: &str) -> Result<MailCommand, EnvelopeError> {
    // Left-overs of a former command must not show.
    let mut command = MailCommand {
        line: "old".into(),
        local: "old".into(),
        domain: "old".into(),
        size: Some(1),
        body_8bit: true,
        smtputf8: true,
        ret_full: Some(true),
        envid: Some("old".into()),
        auth: Some("old".into()),
    };
    mail(argument.as_bytes(), settings, &Capabilities::of(settings), &mut command).map(|_| command)
}

fn rcpt_in(settings: &Settings, argument: &str, utf8: bool) -> Result<RcptCommand, EnvelopeError> {
    let mut command = RcptCommand {
        line: "old".into(),
        local: "old".into(),
        domain: "old".into(),
        notify: Some((true, true, true)),
        orcpt: Some("old".into()),
    };
    rcpt(argument.as_bytes(), settings, &Capabilities::of(settings), utf8, &mut command).map(|()| command)
}

fn address(settings: &Settings, path: &str) -> Result<(String, String), EnvelopeError> {
    rcpt_in(settings, &format!("TO:{path}"), false).map(|command| (command.local, command.domain))
}

#[test]
fn paths_that_are_taken() {
    let settings = settings();
    let long_label = "l".repeat(63);
    let quoted = r#"<"a\"b > @ ,"@x.y>"#;
    for (path, local, domain) in [
        ("<Joe+x@Example.COM>", "Joe+x", "example.com"),
        ("<a.b.c@x>", "a.b.c", "x"),
        ("<!#$%&'*+-/=?^_`{|}~@x_y.z>", "!#$%&'*+-/=?^_`{|}~", "x_y.z"),
        (quoted, r#""a\"b > @ ,""#, "x.y"),
        ("<\"\"@x>", "\"\"", "x"),
        ("<a@[1.2.3.4]>", "a", "[1.2.3.4]"),
        ("<a@[IPv6:2001:DB8::1]>", "a", "[ipv6:2001:db8::1]"),
        ("<Postmaster>", "Postmaster", ""),
        ("<@r1.x,@r2.y:a@b>", "a", "b"),
        (" <a@b>", "a", "b"),
        (&format!("<a@{long_label}.b>"), "a", &format!("{long_label}.b")),
    ] {
        assert_eq!(address(&settings, path), Ok((local.to_owned(), domain.to_owned())), "{path}");
    }
}

#[test]
fn paths_that_are_refused() {
    let settings = settings();
    let label = "l".repeat(64);
    let domain = format!("{0}.{0}.{0}.{0}", "l".repeat(63)) + ".xy";
    for path in [
        "",
        "a@b",
        "<a@b",
        "a@b>",
        "<a@b>x",
        "<a@b>>",
        "<<a@b>>",
        "<@b>",
        "<a@>",
        "<a@b@c>",
        "<a b@c>",
        "< a@b>",
        "<a@b >",
        "<a@b> ",
        "<a..b@c>",
        "<.a@c>",
        "<a.@c>",
        "<a@b.>",
        "<a@.b>",
        "<a@b..c>",
        "<a@-b>",
        "<a@b->",
        "<a@b c>",
        "<\"a@b>",
        "<\"a\"b@c>",
        "<a\"b\"@c>",
        "<a@[1.2.3]>",
        "<a@[1.2.3.4>",
        "<a@[IPv6:1.2.3.4]>",
        "<a@[x:y]>",
        "<a@[]>",
        "<a,b@c>",
        "<a(b)@c>",
        "<@r1:>",
        "<@r1,r2:a@b>",
        "<a\u{7f}@b>",
        "<a\t@b>",
        "<a\0@b>",
        "<é@b>",
        "<a@é>",
        "<\"a\\é\"@b>",
        "<a@b\r>",
        "<a@b\n>",
        &format!("<a@{label}>"),
        &format!("<a@{domain}>"),
    ] {
        assert_eq!(address(&settings, path), Err(EnvelopeError::Syntax), "{path:?}");
        if !path.is_empty() {
            assert_eq!(mail_in(&settings, &format!("FROM:{path}")), Err(EnvelopeError::Syntax), "{path:?}");
        }
    }
    assert_eq!(
        rcpt(b"TO:<\xff@b>", &settings, &Capabilities::of(&settings), true, &mut RcptCommand::default()),
        Err(Syntax)
    );
    for argument in ["", "FROM", "FROM:", "FROM<a@b>", "FROM :<a@b>", "TO:<a@b>", "FR\u{e9}M:<a@b>"] {
        assert_eq!(mail_in(&settings, argument), Err(EnvelopeError::Syntax), "{argument}");
    }
}

#[test]
fn relaxed_rules_allow_what_they_name_and_no_more() {
    let relaxed = settings_with(&[], |settings| settings.pedantic_address_rules = false);
    for (path, local) in [("<a..b@x>", "a..b"), ("<ab.@x>", "ab."), ("<.a@x>", ".a"), ("<a@x>   ", "a"), ("a@x", "a")] {
        assert_eq!(address(&relaxed, path).map(|found| found.0).as_deref(), Ok(local), "{path}");
    }
    for path in ["<a b@x>", "<a@x..y>", "< a@x>", "<a@b>x", "<@x>"] {
        assert!(address(&relaxed, path).is_err(), "{path}");
    }
    let blanks = settings_with(&[], |settings| settings.allow_trailing_whitespace_in_commands = true);
    assert_eq!(address(&blanks, "< a@x >"), Ok(("a".into(), "x".into())));
    assert_eq!(address(&blanks, "<a@x> "), Err(EnvelopeError::Syntax));
    let trailing = settings_with(&[], |settings| settings.allow_whitespace_in_envelope = true);
    assert_eq!(address(&trailing, "<a@x> \t"), Ok(("a".into(), "x".into())));
    assert_eq!(address(&trailing, "<a@x >"), Err(EnvelopeError::Syntax));
    let no_literal = settings_with(&[], |settings| settings.allow_ip_literal = false);
    assert_eq!(address(&no_literal, "<a@[1.2.3.4]>"), Err(EnvelopeError::Syntax));
}

#[test]
fn the_null_sender() {
    let command = mail_in(&settings(), "FROM:<>").unwrap();
    assert_eq!((&*command.local, &*command.domain, &*command.line), ("", "", "MAIL FROM:<>"));
    let refusing = settings_with(&[], |settings| settings.allow_null_sender = false);
    assert_eq!(mail_in(&refusing, "FROM:<>"), Err(EnvelopeError::NullSender));
    assert_eq!(rcpt_in(&settings(), "TO:<>", false), Err(EnvelopeError::Syntax));
}

#[test]
fn parameters_of_mail() {
    let settings = settings_with(&ALL, |_| {});
    let line = "FROM:<a@b>  size=10 BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=q+2Br AUTH=<>";
    assert_eq!(
        mail_in(&settings, line).unwrap(),
        MailCommand {
            line: "MAIL FROM:<a@b> size=10 BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=q+2Br AUTH=<>".into(),
            local: "a".into(),
            domain: "b".into(),
            size: Some(10),
            body_8bit: true,
            smtputf8: true,
            ret_full: Some(false),
            envid: Some("q+r".into()),
            auth: Some("<>".into()),
        }
    );
    let plain = mail_in(&settings, "FROM:<a@b>").unwrap();
    let wanted =
        MailCommand { line: "MAIL FROM:<a@b>".into(), local: "a".into(), domain: "b".into(), ..Default::default() };
    assert_eq!(plain, wanted);
    assert_eq!(mail_in(&settings, "FROM:<a@b> SIZE=99999999999999999999").unwrap().size, Some(u64::MAX));
    let envid = "e".repeat(101);
    for (parameters, error) in [
        ("SIZE=", Syntax),
        ("SIZE", Parameter),
        ("SIZE=-1", Syntax),
        ("SIZE=1 SIZE=1", Syntax),
        ("SIZE=999999999999999999999", Syntax),
        ("BODY=9BIT", Syntax),
        ("BODY=7BIT BODY=7BIT", Syntax),
        ("RET=ALL", Syntax),
        ("ENVID=+", Syntax),
        ("ENVID=a+00", Syntax),
        (&format!("ENVID={envid}"), Syntax),
        ("FOO", Parameter),
        ("FOO=BAR", Parameter),
        ("=x", Syntax),
        ("F<O=1", Syntax),
        ("NOTIFY=NEVER", Parameter),
    ] {
        assert_eq!(mail_in(&settings, &format!("FROM:<a@b> {parameters}")), Err(error), "{parameters}");
    }
}

#[test]
fn parameters_exist_only_where_their_extension_was_announced() {
    let bare = settings();
    for parameter in ["SMTPUTF8", "RET=FULL", "ENVID=x", "AUTH=<>"] {
        assert_eq!(mail_in(&bare, &format!("FROM:<a@b> {parameter}")), Err(Parameter), "{parameter}");
    }
    assert_eq!(mail_in(&bare, "FROM:<a@b> BODY=BINARYMIME"), Err(Syntax));
    assert!(mail_in(&bare, "FROM:<a@b> BODY=7BIT SIZE=1").is_ok());
    for parameter in ["NOTIFY=NEVER", "ORCPT=rfc822;a@b"] {
        assert_eq!(rcpt_in(&bare, &format!("TO:<a@b> {parameter}"), false), Err(Parameter), "{parameter}");
    }
    let all = settings_with(&ALL, |_| {});
    let mut command = MailCommand::default();
    let facts = mail(b"FROM:<a@b> BODY=BINARYMIME", &all, &Capabilities::of(&all), &mut command).unwrap();
    assert!(facts.binary && command.body_8bit);
}

#[test]
fn parameters_of_rcpt() {
    let settings = settings_with(&ALL, |_| {});
    let command = rcpt_in(&settings, "TO:<a@b> NOTIFY=success,DELAY ORCPT=rfc822;x+2By@z", false).unwrap();
    assert_eq!(command.notify, Some((true, false, true)));
    assert_eq!(command.orcpt.as_deref(), Some("rfc822;x+y@z"));
    assert_eq!(command.line, "RCPT TO:<a@b> NOTIFY=success,DELAY ORCPT=rfc822;x+2By@z");
    assert_eq!(rcpt_in(&settings, "TO:<a@b> NOTIFY=NEVER", false).unwrap().notify, Some((false, false, false)));
    assert_eq!(rcpt_in(&settings, "TO:<a@b>", false).unwrap().notify, None);
    let long = format!("ORCPT=rfc822;{}", "a".repeat(500));
    for bad in [
        "NOTIFY=",
        "NOTIFY=NEVER,DELAY",
        "NOTIFY=ALL",
        "ORCPT=a@b",
        "ORCPT=;a",
        "ORCPT=rfc822;",
        "NOTIFY=DELAY NOTIFY=DELAY",
        &long,
    ] {
        assert_eq!(rcpt_in(&settings, &format!("TO:<a@b> {bad}"), false), Err(Syntax), "{bad}");
    }
}

#[test]
fn utf8_addresses_only_with_smtputf8() {
    let settings = settings_with(&ALL, |_| {});
    assert_eq!(mail_in(&settings, "FROM:<jürgen@bücher.example>"), Err(NeedsUtf8));
    let command = mail_in(&settings, "FROM:<jürgen@BÜCHER.example> SMTPUTF8").unwrap();
    assert_eq!((&*command.local, &*command.domain), ("jürgen", "bücher.example"));
    assert_eq!(rcpt_in(&settings, "TO:<ü@b>", false), Err(NeedsUtf8));
    assert!(rcpt_in(&settings, "TO:<ü@b>", true).is_ok());
    assert_eq!(mail_in(&super::super::testing::settings(), "FROM:<ü@b>"), Err(Syntax));
}
