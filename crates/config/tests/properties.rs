//! Whatever is thrown at it, reading ends with a configuration or a report.

use ph_config::{Answer, Config, ConfigEditor, EditSession};
use proptest::prelude::*;
use std::sync::Arc;

/// Pieces that real files are made of, so that random texts get past the lexer.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("domain".to_string()),
        Just("binding".to_string()),
        Just("binding_group".to_string()),
        Just("esmtp_listener".to_string()),
        Just("listen".to_string()),
        Just("\":25\"".to_string()),
        Just("peer".to_string()),
        Just("10.0.0.0/8".to_string()),
        Just("retry_interval".to_string()),
        Just("relay_hosts".to_string()),
        Just("context".to_string()),
        Just("include".to_string()),
        Just("alias".to_string()),
        Just("{".to_string()),
        Just("}".to_string()),
        Just("(".to_string()),
        Just(")".to_string()),
        Just("[".to_string()),
        Just("]".to_string()),
        Just("=".to_string()),
        Just(",".to_string()),
        Just("\n".to_string()),
        Just("# x\n".to_string()),
        Just("/* x */".to_string()),
        Just("\"".to_string()),
        Just("'".to_string()),
        "[a-z]{1,4}",
        "[0-9]{1,6}",
        "\\PC{0,4}",
    ]
}

/// A valid configuration.
fn valid() -> impl Strategy<Value = String> {
    let name = "[a-z][a-z0-9.-]{0,8}";
    let text = "[ -~äß\\\\\"]{0,12}";
    let quoted = text.prop_map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    let setting = prop_oneof![
        (0u64..100_000).prop_map(|n| format!("retry_interval = {n}")),
        quoted.clone().prop_map(|text| format!("ehlo_hostname = {text}")),
        quoted.clone().prop_map(|text| format!("outbound_smtp_auth_user = {text}")),
        (1u32..100, 1u32..100).prop_map(|(n, s)| format!("outbound_throttle_messages = {n}/{s}")),
        Just("generate_bounces = Off".to_string()),
        Just("exclude_vctx_mess ( 'a\"b' \"\\d+\" )".to_string()),
    ];
    let body = proptest::collection::vec(setting, 0..4).prop_map(|settings| settings.join("\n"));
    let stanza = prop_oneof![
        (name, body.clone()).prop_map(|(name, body)| format!("domain {name} {{ {body} }}")),
        (name, body.clone(), name, body.clone())
            .prop_map(|(b, x, d, y)| format!("binding b-{b} {{ {x} domain {d} {{ {y} }} }}")),
        (name, body.clone()).prop_map(|(name, body)| format!("binding_group {name} {{ {body} }}")),
        proptest::collection::vec(("[a-z]{1,6}", quoted), 0..4).prop_map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k} = {v}")).collect();
            format!("esmtp_listener {{ context = [ {} ] }}", pairs.join(", "))
        }),
    ];
    (body, proptest::collection::vec(stanza, 0..6))
        .prop_map(|(body, stanzas)| format!("{body}\n{}", stanzas.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_in_a_configuration_or_a_report(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Err(report) = Config::parse_bytes("x", &bytes) {
            prop_assert!(report.has_errors());
            prop_assert!(report.to_string().ends_with("Reconfigure failed.\n"));
        }
    }

    #[test]
    fn any_pieces_end_in_a_configuration_or_a_report(pieces in proptest::collection::vec(piece(), 0..60)) {
        let text = pieces.join(" ");
        match Config::parse("x", &text) {
            Ok(loaded) => {
                let printed = loaded.config.text();
                let again = Config::parse("x", &printed);
                prop_assert!(again.is_ok(), "{text}\n{printed}\n{}", again.unwrap_err());
            }
            Err(report) => prop_assert!(report.has_errors()),
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same(text in valid()) {
        let loaded = Config::parse("x", &text);
        prop_assert!(loaded.is_ok(), "{text}\n{}", loaded.unwrap_err());
        let config = loaded.unwrap().config;
        let printed = config.text();
        let again = Config::parse("x", &printed).map(|l| l.config);
        prop_assert!(again.is_ok(), "{printed}\n{}", again.unwrap_err());
        let again = again.unwrap();
        prop_assert_eq!(again.text(), printed);
        prop_assert_eq!(again.to_json(), config.to_json());
    }

    #[test]
    fn any_command_gets_an_answer(line in "\\PC{0,60}", verb in "(set|get|eval|unset|show|locate|begin|commit|replay|)") {
        let config = Config::parse("x", "retry_interval = 1 binding b { domain d { } } alias a { x = y }").unwrap().config;
        let editor = ConfigEditor::new(Arc::new(config), None);
        let mut session = EditSession::default();
        match editor.run(&mut session, &format!("{verb} {line}")) {
            Answer::Failed(text) => prop_assert!(text.ends_with('\n')),
            Answer::Text(_) => {}
            Answer::Apply(pending) => _ = editor.accept(&mut session, pending),
        }
    }

    #[test]
    fn any_words_get_an_answer(pieces in proptest::collection::vec(piece(), 0..12)) {
        let config = Config::parse("x", "retry_interval = 1").unwrap().config;
        let editor = ConfigEditor::new(Arc::new(config), None);
        let mut session = EditSession::default();
        for verb in ["set", "get", "eval", "unset", "showrecurse", "locate"] {
            let mut words = vec![verb];
            words.extend(pieces.iter().map(String::as_str));
            let _ = editor.run_words(&mut session, &words);
        }
    }
}
