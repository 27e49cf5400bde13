//! The report of a test run as build servers read it: JUnit's XML.

use super::Suite;
use std::fmt::Write;

pub fn report(suites: &[Suite]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in suites {
        let failed = suite.cases.iter().filter(|case| case.failure.is_some()).count();
        let took: f64 = suite.cases.iter().map(|case| case.took.as_secs_f64()).sum();
        let name = escaped(&suite.name);
        let count = suite.cases.len();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failed}\" errors=\"0\" time=\"{took:.6}\">"
        );
        for case in &suite.cases {
            let took = case.took.as_secs_f64();
            let head =
                format!("    <testcase classname=\"{name}\" name=\"{}\" time=\"{took:.6}\"", escaped(&case.name));
            let _ = match &case.failure {
                None => writeln!(out, "{head}/>"),
                Some(text) => {
                    let first = escaped(text.lines().next().unwrap_or_default());
                    let text = escaped(text);
                    writeln!(out, "{head}>\n      <failure message=\"{first}\">{text}</failure>\n    </testcase>")
                }
            };
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// XML 1.0 has no characters below the blank but tab and the line ends, escaped or not.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_test::Case;
    use std::time::Duration;

    #[test]
    fn what_would_break_the_xml_is_escaped() {
        let case = |name: &str, failure: Option<&str>| Case {
            name: name.to_owned(),
            took: Duration::from_millis(5),
            failure: failure.map(str::to_owned),
        };
        let suite =
            Suite { name: "a_test.lua".to_owned(), cases: vec![case("fine", None), case("<&\">", Some("\u{1b}a\nb"))] };
        assert_eq!(
            report(&[suite]),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
             <testsuite name=\"a_test.lua\" tests=\"2\" failures=\"1\" errors=\"0\" time=\"0.010000\">\n    \
             <testcase classname=\"a_test.lua\" name=\"fine\" time=\"0.005000\"/>\n    \
             <testcase classname=\"a_test.lua\" name=\"&lt;&amp;&quot;&gt;\" time=\"0.005000\">\n      \
             <failure message=\"\u{fffd}a\">\u{fffd}a\nb</failure>\n    </testcase>\n  </testsuite>\n</testsuites>\n"
        );
    }
}
