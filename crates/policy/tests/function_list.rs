//! Compares the declared functions with Momentum's list of functions (`function_list.tsv`: one row a function or form of one).
//!
//! Of the tables that are built, every row is declared with the same columns, save those whose engine is not there, and nothing is
//! declared as listed that is not.

use std::collections::BTreeSet;

const LIST: &str = include_str!("function_list.tsv");
const COLUMNS: [&str; 7] = ["table", "name", "params", "package", "since", "phases", "deprecated"];

/// Tables of which every row has to be there. One that is declared besides is compared as far as it goes.
const BUILT: &[&str] =
    &["accept", "message", "message_part", "validation", "string", "json", "idn", "misc", "resource", "os", "thread"];

/// Sieve, SNMP and schemes of authentication: engines that are not built.
const WITHOUT_ENGINE: &[&str] = &["msys.runSieveScript", "msys.snmpTrap", "msys.registerAuth"];

type Row = [String; 7];

fn listed() -> Vec<Row> {
    let mut lines = LIST.lines();
    assert_eq!(lines.next(), Some(COLUMNS.join("\t").as_str()));
    lines
        .map(|line| {
            let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
            Row::try_from(cells).unwrap_or_else(|cells| panic!("{} columns: {line}", cells.len()))
        })
        .collect()
}

fn declared() -> BTreeSet<Row> {
    let functions = ph_policy::lua_api_json();
    let functions = functions.as_array().unwrap().iter().filter(|function| function["listed"] == true);
    functions.map(|function| COLUMNS.map(|column| function[column].as_str().unwrap().to_owned())).collect()
}

#[test]
fn the_list_is_whole() {
    let rows = listed();
    assert_eq!(rows.len(), 217);
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), 217, "a row stands twice");
    for table in BUILT {
        assert!(rows.iter().any(|row| row[0] == *table), "{table}");
    }
    for name in WITHOUT_ENGINE {
        assert!(rows.iter().any(|row| row[1] == *name), "{name}");
    }
}

#[test]
fn every_listed_function_is_declared_with_the_columns_of_the_list() {
    let (listed, declared) = (listed(), declared());
    let lacks = |row: &&Row| BUILT.contains(&row[0].as_str()) && !declared.contains(*row);
    let missing = listed.iter().filter(lacks).filter(|row| !WITHOUT_ENGINE.contains(&row[1].as_str()));
    let extra = declared.iter().filter(|row| !listed.contains(row));
    let shown = |sign: &str, row: &Row| format!("{sign} {}", row.join(" | "));
    let differences: Vec<String> = missing.map(|row| shown("-", row)).chain(extra.map(|row| shown("+", row))).collect();
    assert!(differences.is_empty(), "missing (-) or not in the list (+):\n{}", differences.join("\n"));
}

#[test]
fn a_function_without_its_engine_is_not_declared() {
    for row in declared() {
        assert!(!WITHOUT_ENGINE.contains(&row[1].as_str()), "{} is declared: take it out of WITHOUT_ENGINE", row[1]);
    }
}
