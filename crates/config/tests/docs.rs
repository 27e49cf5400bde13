//! The pages of the documentation: every example loads, the worked example is right, the reference page is current.

use ph_config::{Config, options as opt, registry};
use std::fs;
use std::path::{Path, PathBuf};

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// Fenced blocks: what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.to_string(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn every_example_of_the_guide_loads() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = blocks(&fs::read_to_string(page("configuration.md")).unwrap());
    let mut mains = Vec::new();
    for (at, (info, text)) in blocks.iter().enumerate() {
        let name = info.split_once("file=").map_or_else(|| format!("block-{at}.conf"), |(_, name)| name.to_string());
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        if info.starts_with("conf") {
            mains.push((info.split(' ').next().unwrap().to_string(), path));
        }
    }
    assert!(mains.len() >= 12);
    for (kind, path) in mains {
        match (kind.as_str(), Config::load(&path)) {
            ("conf", Ok(loaded)) => assert!(loaded.warnings.is_empty(), "{}", loaded.warnings),
            ("conf", Err(report)) => panic!("{report}"),
            ("conf-error", Ok(_)) => panic!("{} loads", path.display()),
            _ => {}
        }
    }
}

#[test]
fn the_error_in_the_guide_is_what_is_printed() {
    let blocks = blocks(&fs::read_to_string(page("configuration.md")).unwrap());
    let at = blocks.iter().position(|(info, _)| info == "conf-error").unwrap();
    let report = Config::parse("main.conf", &blocks[at].1).unwrap_err();
    assert_eq!(report.to_string(), blocks[at + 1].1);
}

#[test]
fn the_worked_example_is_right() {
    let text = fs::read_to_string(page("configuration.md")).unwrap();
    let example = blocks(&text).into_iter().find(|(info, _)| info == "conf fallback").unwrap().1;
    let config = Config::parse("example", &example).unwrap_or_else(|report| panic!("{report}")).config;
    let mut rows = 0;
    for line in
        text.lines().skip_while(|line| !line.starts_with("| group |")).skip(2).take_while(|l| l.starts_with('|'))
    {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let got = config.sending(cells[1], cells[2], cells[3]).get(&opt::RETRY_INTERVAL);
        assert_eq!(got.to_string(), cells[4], "{line}");
        rows += 1;
    }
    assert_eq!(rows, 8);
}

/// `PH_WRITE_DOCS=1 cargo test -p ph-config --test docs` writes the page anew.
#[test]
fn the_reference_page_is_current() {
    let path = page("configuration-options.md");
    let wanted = registry::to_markdown();
    if std::env::var_os("PH_WRITE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == wanted, "docs/configuration-options.md is old: run this test with PH_WRITE_DOCS=1");
}

#[test]
fn the_listing_has_every_option() {
    let listing = registry::to_json();
    let listing = listing.as_array().unwrap();
    let find = |name: &str| listing.iter().find(|o| o["name"] == name).unwrap();
    let option = find("Max_Outbound_Connections");
    assert_eq!(option["default"], "32");
    assert_eq!(option["default_in_host"], "-1");
    assert_eq!(option["type"], "int");
    assert_eq!(option["scopes"].as_array().unwrap().len(), 5);
    assert_eq!(find("Spoolbase")["reloadable"], false);
    assert_eq!(find("MainLog")["scopes"][0], "Custom_Logger");
    assert!(listing.len() > 500, "{}", listing.len());
    assert!(listing.iter().all(|o| o["doc"].as_str().is_some_and(|doc| !doc.is_empty())));
}
