//! Names of bindings and domains, each kept once and known to the rest by a number.
//!
//! Bindings are few and stay for the life of the process (their counters too). Domains come and go with their queues.
//! The tables are keyed by a seeded hash, since peers choose the domains.

use crate::inspect::Counters;
use compact_str::CompactString;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;
use std::hash::{BuildHasher, RandomState};

/// Where mail is queued: a binding (in its group) and a routing domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueRef {
    /// The binding group; `default` for bindings outside any group.
    pub group: CompactString,
    /// The binding.
    pub binding: CompactString,
    /// The routing domain, lower-cased.
    pub domain: CompactString,
}

impl QueueRef {
    /// A queue by its names. An empty binding is `default`, an empty group likewise; the domain is lower-cased, unless it is
    /// the path of a socket.
    pub fn new(group: &str, binding: &str, domain: &str) -> QueueRef {
        let or_default = |name: &str| CompactString::from(if name.is_empty() { DEFAULT } else { name });
        let mut domain = CompactString::from(domain);
        if !domain.starts_with('/') {
            domain.make_ascii_lowercase();
        }
        QueueRef { group: or_default(group), binding: or_default(binding), domain }
    }
}

impl std::fmt::Display for QueueRef {
    /// `group/binding domain`, as `mailq` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.group, self.binding, self.domain)
    }
}

/// The binding and the group that are there without being declared.
pub const DEFAULT: &str = "default";

#[derive(Debug, Default)]
pub(crate) struct Names {
    pub bindings: Vec<Binding>,
    pub domains: Slab<Domain>,
    binding_index: HashTable<u32>,
    domain_index: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Debug)]
pub(crate) struct Binding {
    pub group: CompactString,
    pub name: CompactString,
    /// The configuration does not have it any more: its mail belongs to `default`.
    pub gone: bool,
    pub counters: Counters,
}

#[derive(Debug)]
pub(crate) struct Domain {
    pub name: CompactString,
    /// Its queues, one per binding. The domain goes with the last of them.
    pub queues: SmallVec<[u32; 2]>,
}

impl Names {
    pub fn hash(&self, group: &str, binding: &str, domain: &str) -> u64 {
        self.hasher.hash_one((group, binding, domain))
    }

    /// The number of a binding, new or old.
    pub fn binding(&mut self, group: &str, name: &str) -> u32 {
        let hash = self.hasher.hash_one((group, name));
        let (bindings, hasher) = (&self.bindings, &self.hasher);
        let found = self.binding_index.find(hash, |no| {
            let known = &bindings[*no as usize];
            known.name == name && known.group == group
        });
        if let Some(no) = found {
            return *no;
        }
        let no = self.bindings.len() as u32;
        self.bindings.push(Binding {
            group: group.into(),
            name: name.into(),
            gone: false,
            counters: Counters::default(),
        });
        let bindings = &self.bindings;
        self.binding_index.insert_unique(hash, no, |no| {
            let known = &bindings[*no as usize];
            hasher.hash_one((known.group.as_str(), known.name.as_str()))
        });
        no
    }

    /// The number of a domain that has queues.
    pub fn find_domain(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.domain_index.find(hash, |no| self.domains[*no as usize].name == name).copied()
    }

    /// Notes a queue under its domain, and returns the number of the domain.
    pub fn add_queue(&mut self, name: &str, queue: u32) -> u32 {
        let no = match self.find_domain(name) {
            Some(no) => no,
            None => {
                let no = self.domains.insert(Domain { name: name.into(), queues: SmallVec::new() }) as u32;
                let (domains, hasher) = (&self.domains, &self.hasher);
                self.domain_index.insert_unique(hasher.hash_one(name), no, |no| {
                    hasher.hash_one(domains[*no as usize].name.as_str())
                });
                no
            }
        };
        self.domains[no as usize].queues.push(queue);
        no
    }

    /// Forgets a queue, and its domain if it was the last one.
    pub fn remove_queue(&mut self, domain: u32, queue: u32) {
        let entry = &mut self.domains[domain as usize];
        entry.queues.retain(|no| *no != queue);
        if entry.queues.is_empty() {
            let hash = self.hasher.hash_one(entry.name.as_str());
            if let Ok(found) = self.domain_index.find_entry(hash, |no| *no == domain) {
                found.remove();
            }
            self.domains.remove(domain as usize);
        }
    }
}
