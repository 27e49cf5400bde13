//! Power loss at random points, and the log cut at every octet. A map is the truth: everything that was acknowledged and
//! not given up is there after the restart, and whatever is there is whole.

use super::*;
use crate::sim::{Dice, Faults};
use ph_message::DeliveryState;

/// What the outside world knows of a message.
#[derive(Clone, Debug)]
struct Known {
    key: SpoolKey,
    octets: usize,
    /// Messages of one transaction.
    group: u64,
    binding: u32,
    /// Values that a state may have after a crash: any that was ever given.
    attempts_max: u32,
}

/// Everything the outside world knows.
#[derive(Debug, Default)]
struct World {
    id_next: u64,
    /// Acknowledged, and not given up.
    truth: BTreeMap<u64, Known>,
    /// The messages of each transaction that was tried.
    groups: BTreeMap<u64, Vec<u64>>,
    /// May come back, since `done` is not synced.
    given_up: std::collections::BTreeSet<u64>,
}

/// One process's life on `disk`, until the power fails.
async fn live(disk: &Sim, dice: &mut Dice, world: &mut World) {
    let World { id_next, truth, groups, given_up } = world;
    let percent = [0, 25, 60][dice.below(3) as usize];
    let options = SpoolOptions { compact_below_percent: percent, ..options(disk) };
    let Ok((spool, report, found)) = open(options) else {
        assert!(disk.is_off(), "only a lost power keeps a spool from opening");
        return;
    };
    assert_eq!(report.damage, [], "a crash is no damage");
    for (&id, known) in truth.iter_mut() {
        let one = found.get(&id).unwrap_or_else(|| panic!("message {id} is lost: {known:?}"));
        assert!(one.summary.attempts <= known.attempts_max, "{id}");
        known.key = one.key;
    }
    // A transaction that was not acknowledged is there with all its messages or with none.
    for (group, ids) in groups.iter().filter(|(_, ids)| !ids.iter().any(|id| truth.contains_key(id))) {
        let here = ids.iter().filter(|id| found.contains_key(id)).count();
        let any_done = ids.iter().any(|id| given_up.contains(id));
        assert!(here == 0 || here == ids.len() || any_done, "half of {group}: {here} of {}", ids.len());
    }
    for (&id, one) in &found {
        let stored = match spool.read(one.key).await {
            Ok(stored) => stored,
            Err(error) => {
                assert!(disk.is_off(), "message {id}: {error}");
                return;
            }
        };
        assert_eq!(stored.state.attempts, one.summary.attempts, "state of {id}");
        let group = groups.iter().find(|(_, ids)| ids.contains(&id)).map(|(&group, ids)| (group, ids.len()));
        let (group, _) = group.unwrap_or_else(|| panic!("message {id} was never committed"));
        let octets = octets_of(group);
        match try_bytes_of(&stored.content) {
            Ok(bytes) => assert_eq!(bytes, bytes_of(&content(group, octets)), "content of {id}"),
            Err(error) => assert!(disk.is_off(), "body of {id}: {error}"),
        }
        if let Some(known) = truth.get(&id) {
            assert_eq!(stored.envelope.binding, format!("b{}", known.binding), "envelope of {id}");
        } else {
            // It was never acknowledged, or it is done: whole, so it may be here. It goes now.
            spool.done(one.key);
            given_up.insert(id);
        }
    }
    loop {
        match dice.below(10) {
            0..5 => {
                let group = *id_next;
                let count = if dice.one_in(3) { 1 + dice.below(4) } else { 1 };
                let octets = octets_of(group);
                let shared = content(group, octets);
                let ids: Vec<u64> = (group..group + count).collect();
                *id_next += count;
                groups.insert(group, ids.clone());
                let with_binding = |id| Envelope { binding: "b0".into(), ..envelope(id) };
                let messages = ids.iter().map(|&id| (Arc::new(with_binding(id)), shared.clone())).collect();
                match spool.commit(messages).await {
                    Ok(keys) => {
                        for (&id, key) in ids.iter().zip(keys) {
                            let known = Known { key, octets, group, binding: 0, attempts_max: 0 };
                            truth.insert(id, known);
                        }
                    }
                    Err(_) => break,
                }
            }
            5..7 => {
                let nth = dice.below(truth.len() as u64) as usize;
                if let Some((&id, known)) = truth.iter().nth(nth) {
                    spool.done(known.key);
                    given_up.insert(id);
                    truth.remove(&id);
                }
            }
            7 => {
                let nth = dice.below(truth.len() as u64) as usize;
                if let Some(known) = truth.values_mut().nth(nth) {
                    known.attempts_max += 1;
                    spool.update(known.key, DeliveryState { attempts: known.attempts_max, ..Default::default() });
                }
            }
            8 => {
                let nth = dice.below(truth.len() as u64) as usize;
                if let Some((&id, known)) = truth.iter_mut().nth(nth) {
                    let binding = known.binding + 1;
                    let next = Envelope { binding: format!("b{binding}").into(), ..envelope(id) };
                    match spool.replace(known.key, next).await {
                        Ok(()) => known.binding = binding,
                        Err(_) => {
                            // Neither the old one nor the new one is promised now: it counts as done.
                            given_up.insert(id);
                            truth.remove(&id);
                            break;
                        }
                    }
                }
            }
            _ => {
                let nth = dice.below(truth.len() as u64) as usize;
                if let Some((&id, known)) = truth.iter().nth(nth)
                    && let Ok(stored) = spool.read(known.key).await
                    && let Ok(bytes) = try_bytes_of(&stored.content)
                {
                    assert_eq!(bytes, bytes_of(&content(known.group, known.octets)), "{id}");
                }
            }
        }
        if disk.is_off() {
            break;
        }
    }
}

/// Now and then a body that gets a file of its own.
fn octets_of(group: u64) -> usize {
    if group % 13 == 5 { 9000 } else { (group.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % 5000 }
}

fn crash_runs(seeds: std::ops::Range<u64>, lives: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for seed in seeds {
        let mut dice = Dice(seed);
        let mut disk = Sim::new(seed);
        let mut world = World { id_next: 1, ..World::default() };
        for life in 0..lives {
            let calls = if life == 0 { 20 + dice.below(300) } else { dice.below(500) };
            disk.set_faults(Faults { power: Some(calls), short: 7 * dice.below(2), ..Faults::default() });
            runtime.block_on(live(&disk, &mut dice, &mut world));
            disk.power_off();
            disk = disk.after_power_loss(seed * 1000 + life);
        }
    }
}

/// How many times as many crashes: `POSTHASTE_CRASHES=20` for a long run.
fn factor() -> u64 {
    std::env::var("POSTHASTE_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn a_thousand_power_losses_lose_nothing_acknowledged() {
    crash_runs(0..125 * factor(), 8);
}

#[test]
fn a_thousand_more_in_short_lives() {
    crash_runs(1_000_000..1_000_000 + 250 * factor(), 4);
}

/// The log of a killed process, cut at every octet: a prefix of the transactions is there, each whole.
#[test]
fn cut_at_every_octet_a_log_holds_whole_transactions_only() {
    let disk = Sim::new(30);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = SpoolOptions { segment_bytes: 32 << 10, ..options(&disk) };
        let (spool, ..) = open(options).expect("opens");
        let shared = content(1, 300);
        for (first, last) in [(1, 1), (2, 4), (5, 5)] {
            let messages = (first..=last).map(|id| (Arc::new(envelope(id)), shared.clone())).collect();
            spool.commit(messages).await.expect("commits");
        }
        let image = disk.after_kill();
        let log = log_files(&image).into_iter().next().expect("a segment");
        let whole = image.bytes(&log);
        let used = whole.iter().rposition(|&octet| octet != 0).expect("not empty") + 1;
        let mut seen = std::collections::BTreeSet::new();
        for cut in (0..=used).rev() {
            for zeroed in [false, true] {
                let image = image.after_kill();
                image.edit(&log, |bytes| {
                    bytes.truncate(cut);
                    if zeroed {
                        bytes.resize(whole.len(), 0);
                    }
                });
                let options = SpoolOptions { segment_bytes: 32 << 10, ..super::options(&image) };
                let (spool, report, found) = open(options).expect("opens");
                assert!(report.damage.len() <= 1, "{:?}", report.damage);
                let ids: Vec<u64> = found.keys().copied().collect();
                assert!([&[][..], &[1], &[1, 2, 3, 4], &[1, 2, 3, 4, 5]].contains(&&ids[..]), "cut at {cut}: {ids:?}");
                for one in found.values() {
                    let stored = spool.read(one.key).await.expect("whole");
                    assert_eq!(bytes_of(&stored.content), bytes_of(&shared));
                }
                seen.insert(ids.len());
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 4, 5]);
        drop(spool);
    });
}
