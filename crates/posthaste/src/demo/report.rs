//! What the demo shows at its end: numbers, one message before and after, the refusals, a bounce, and where to look next.

use super::{Server, Tally};
use anyhow::Result;
use std::path::Path;
use std::sync::atomic::Ordering;

/// The records of a mainlog, counted.
#[derive(Default)]
pub struct Counts {
    pub received: u32,
    pub delivered: u32,
    pub deferrals: u32,
    pub failed: u32,
    /// Reports (DSNs) that were made.
    pub reports: u32,
}

impl Counts {
    pub fn of(log: &str) -> Counts {
        let mut counts = Counts::default();
        for line in log.lines() {
            let fields: Vec<&str> = line.split('@').collect();
            match fields.get(4) {
                Some(&"R") => {
                    counts.received += 1;
                    counts.reports += u32::from(fields.get(11) == Some(&"internal"));
                }
                Some(&"D") => counts.delivered += 1,
                Some(&"T") => counts.deferrals += 1,
                Some(&"P") => counts.failed += 1,
                _ => {}
            }
        }
        counts
    }

    /// Letters that the policy threw away after accepting them.
    pub fn discarded(&self, dir: &Path) -> u32 {
        let log = std::fs::read_to_string(dir.join("rejectlog.ec")).unwrap_or_default();
        u32::try_from(log.lines().filter(|line| line.ends_with("test mail goes nowhere")).count()).unwrap_or(0)
    }
}

pub fn show(dir: &Path, server: &Server, tally: &Tally, sink: &ph_load::SinkHandle) -> Result<()> {
    let log = std::fs::read_to_string(dir.join("mainlog.ec")).unwrap_or_default();
    let counts = Counts::of(&log);
    println!("\n4. What happened");
    println!(
        "   refused while it was spoken  {:4}   (the sender was told at once, nothing was stored)",
        tally.refused.load(Ordering::Relaxed)
    );
    for refusal in tally.refusals.lock().iter() {
        println!("                                       {refusal}");
    }
    println!("   accepted, each on disk first {:4}", tally.accepted.load(Ordering::Relaxed));
    println!("   thrown away by the policy    {:4}   (subject [test])", counts.discarded(dir));
    println!("   delivered                    {:4}   (the sink has {})", counts.delivered, sink.stats().messages);
    println!("   put off, then tried again    {:4}   attempts (slow.example)", counts.deferrals);
    println!(
        "   bounced                      {:4}   (closed.example; {} reports went back to the senders)",
        counts.failed, counts.reports
    );

    println!("\n   One record of each kind from mainlog.ec:");
    for kind in ["@R@", "@D@", "@T@", "@P@"] {
        if let Some(line) = log.lines().find(|line| line.contains(kind)) {
            println!("     {line}");
        }
    }
    show_rewritten(dir);
    println!("\n   The console, `summary`:");
    for line in server.console("summary")?.lines().filter(|line| !line.trim().is_empty()).take(30) {
        println!("     {line}");
    }
    println!("\nWhere to look next");
    println!("   examples/demo/posthaste.conf      the configuration, with comments");
    println!("   examples/demo/lua/welcome.lua     the policy; change it and run the demo again");
    println!("   docs/getting-started.md           a server of your own in ten minutes");
    println!("   docs/moving-from-momentum.md      an ecelerity.conf and its policies, unchanged");
    println!("   posthaste demo --keep             the same, and the logs stay for you to read");
    Ok(())
}

/// The header of one delivered newsletter: what the policy added and took away.
fn show_rewritten(dir: &Path) {
    let Ok(files) = std::fs::read_dir(dir.join("delivered")) else { return };
    let texts = files.flatten().filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let Some(text) = texts.into_iter().find(|text| text.contains("Newsletter")) else { return };
    println!("\n   A letter as it arrived (X-Internal-Route is gone, X-Posthaste-Demo is new):");
    for line in text.lines().take_while(|line| !line.is_empty()) {
        println!("     {line}");
    }
}
