//! The two orders a queue keeps its messages in, both made of the two links of the slots and of nothing else.
//!
//! `List`: the active mail, a doubly linked list in order of arrival, urgent mail before all other; every step is O(1). `Tree`: the delayed mail, a
//! treap ordered by (due time, slot number); insertion, removal and "the next behind this one" are O(log n). The shape of
//! a treap follows from its priorities, here a mixed slot number: no order of due times makes it deep. Neither allocates.

use crate::entry::{NIL, Slots};
use ph_message::Time;

/// A doubly linked list through `prev` and `next`: urgent mail first, then the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
    /// The last one that is urgent.
    urgent_tail: u32,
    urgent_len: u32,
}

impl List {
    pub const EMPTY: List = List { head: NIL, tail: NIL, len: 0, urgent_tail: NIL, urgent_len: 0 };

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn head(&self) -> u32 {
        self.head
    }

    /// How many are urgent.
    pub fn urgent_len(&self) -> u32 {
        self.urgent_len
    }

    /// The first one that is not urgent.
    pub fn head_of_rest(&self, slots: &Slots) -> u32 {
        if self.urgent_tail == NIL { self.head } else { slots[self.urgent_tail].next }
    }

    /// Behind which one a message will come that is put at the back.
    pub fn back(&self, urgent: bool) -> u32 {
        if urgent { self.urgent_tail } else { self.tail }
    }

    /// Behind all others that are as urgent.
    pub fn push_back(&mut self, slots: &mut Slots, no: u32) {
        let behind = self.back(slots[no].urgent);
        self.insert(slots, behind, no);
    }

    /// Before all others that are as urgent.
    pub fn push_front(&mut self, slots: &mut Slots, no: u32) {
        let behind = if slots[no].urgent { NIL } else { self.urgent_tail };
        self.insert(slots, behind, no);
    }

    /// Puts a message behind another one, or to the head.
    fn insert(&mut self, slots: &mut Slots, behind: u32, no: u32) {
        let next = if behind == NIL { self.head } else { slots[behind].next };
        (slots[no].prev, slots[no].next) = (behind, next);
        match behind {
            NIL => self.head = no,
            behind => slots[behind].next = no,
        }
        match next {
            NIL => self.tail = no,
            next => slots[next].prev = no,
        }
        self.len += 1;
        if slots[no].urgent {
            self.urgent_len += 1;
            if behind == self.urgent_tail {
                self.urgent_tail = no;
            }
        }
    }

    /// Takes a message out that is in this list.
    pub fn remove(&mut self, slots: &mut Slots, no: u32) {
        let (prev, next) = (slots[no].prev, slots[no].next);
        match prev {
            NIL => self.head = next,
            prev => slots[prev].next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => slots[next].prev = prev,
        }
        self.len -= 1;
        if slots[no].urgent {
            self.urgent_len -= 1;
            if no == self.urgent_tail {
                self.urgent_tail = prev;
            }
        }
    }
}

/// A treap through `prev` (left) and `next` (right).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    root: u32,
    len: u32,
    /// The smallest due time, or `Time::MAX` when empty: looked at for every delivery, hence kept.
    first_due: Time,
}

/// A position in a tree.
pub(crate) type TreeKey = (Time, u32);

impl Tree {
    pub const EMPTY: Tree = Tree { root: NIL, len: 0, first_due: Time::MAX };

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn first_due(&self) -> Time {
        self.first_due
    }

    /// Inserts a message at its `due` time.
    pub fn insert(&mut self, slots: &mut Slots, no: u32) {
        let key = key_of(slots, no);
        self.first_due = self.first_due.min(key.0);
        self.len += 1;
        // Down to where the newcomer's priority is the greater one; what is there is split around it.
        let mut link = Link::Root;
        let mut at = self.root;
        while at != NIL && priority(at) > priority(no) {
            link = if key < key_of(slots, at) { Link::Left(at) } else { Link::Right(at) };
            at = link.follow(slots, self.root);
        }
        let (left, right) = split(slots, at, key);
        slots[no].prev = left;
        slots[no].next = right;
        self.set(slots, link, no);
    }

    /// Takes a message out that is in this tree (its `due` unchanged since the insertion).
    pub fn remove(&mut self, slots: &mut Slots, no: u32) {
        let key = key_of(slots, no);
        let mut link = Link::Root;
        let mut at = self.root;
        while at != no {
            debug_assert_ne!(at, NIL, "a message is where its slot says");
            if at == NIL {
                return;
            }
            link = if key < key_of(slots, at) { Link::Left(at) } else { Link::Right(at) };
            at = link.follow(slots, self.root);
        }
        let joined = merge(slots, slots[no].prev, slots[no].next);
        self.set(slots, link, joined);
        self.len -= 1;
        if key.0 == self.first_due {
            self.first_due = self.first(slots).map_or(Time::MAX, |no| slots[no].due);
        }
    }

    /// The message that is due first.
    pub fn first(&self, slots: &Slots) -> Option<u32> {
        let mut at = self.root;
        if at == NIL {
            return None;
        }
        while slots[at].prev != NIL {
            at = slots[at].prev;
        }
        Some(at)
    }

    /// The first message strictly behind a position, which need not be one of a message.
    pub fn after(&self, slots: &Slots, position: TreeKey) -> Option<u32> {
        let (mut at, mut best) = (self.root, None);
        while at != NIL {
            if key_of(slots, at) > position {
                best = Some(at);
                at = slots[at].prev;
            } else {
                at = slots[at].next;
            }
        }
        best
    }

    fn set(&mut self, slots: &mut Slots, link: Link, no: u32) {
        match link {
            Link::Root => self.root = no,
            Link::Left(parent) => slots[parent].prev = no,
            Link::Right(parent) => slots[parent].next = no,
        }
    }
}

/// The place of a tree that names a node.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Left(u32),
    Right(u32),
}

impl Link {
    fn follow(self, slots: &Slots, root: u32) -> u32 {
        match self {
            Link::Root => root,
            Link::Left(parent) => slots[parent].prev,
            Link::Right(parent) => slots[parent].next,
        }
    }
}

pub(crate) fn key_of(slots: &Slots, no: u32) -> TreeKey {
    (slots[no].due, no)
}

/// Splits a subtree into what is below and what is above a position.
fn split(slots: &mut Slots, root: u32, key: TreeKey) -> (u32, u32) {
    let (mut below, mut above) = (NIL, NIL);
    // Where the next piece of each side is to be hung: `NIL` stands for the top.
    let (mut below_last, mut above_last) = (NIL, NIL);
    let mut at = root;
    while at != NIL {
        if key_of(slots, at) < key {
            match below_last {
                NIL => below = at,
                last => slots[last].next = at,
            }
            below_last = at;
            at = slots[at].next;
        } else {
            match above_last {
                NIL => above = at,
                last => slots[last].prev = at,
            }
            above_last = at;
            at = slots[at].prev;
        }
    }
    if below_last != NIL {
        slots[below_last].next = NIL;
    }
    if above_last != NIL {
        slots[above_last].prev = NIL;
    }
    (below, above)
}

/// Joins two subtrees, everything in the first being below everything in the second.
fn merge(slots: &mut Slots, mut below: u32, mut above: u32) -> u32 {
    let mut root = NIL;
    let mut link = Link::Root;
    loop {
        let next = match (below, above) {
            (NIL, rest) | (rest, NIL) => rest,
            _ if priority(below) > priority(above) => below,
            _ => above,
        };
        match link {
            Link::Root => root = next,
            Link::Left(parent) => slots[parent].prev = next,
            Link::Right(parent) => slots[parent].next = next,
        }
        if below == NIL || above == NIL {
            return root;
        }
        if next == below {
            link = Link::Right(below);
            below = slots[below].next;
        } else {
            link = Link::Left(above);
            above = slots[above].prev;
        }
    }
}

/// A one-to-one mix of the slot number (two rounds of multiply and shift): equal for no two slots.
fn priority(no: u32) -> u32 {
    let mixed = (no ^ no >> 16).wrapping_mul(0x7feb_352d);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x846c_a68b);
    mixed ^ mixed >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Slot, slot_for_test};
    use proptest::prelude::*;

    fn depth(slots: &Slots, root: u32) -> usize {
        let mut deepest = 0;
        let mut stack = vec![(root, 1)];
        while let Some((at, depth)) = stack.pop() {
            if at != NIL {
                deepest = deepest.max(depth);
                stack.extend([(slots[at].prev, depth + 1), (slots[at].next, depth + 1)]);
            }
        }
        deepest
    }

    #[test]
    fn a_tree_of_100_000_is_shallow_whatever_the_order_of_due_times() {
        for order in 0..3 {
            let (mut slots, mut tree) = (Slots::default(), Tree::EMPTY);
            for i in 0..100_000_i64 {
                let due = [i, -i, i % 7][order];
                let no = slots.insert(slot_for_test(Time(due)), 0, 0).unwrap();
                tree.insert(&mut slots, no);
            }
            let depth = depth(&slots, tree.root);
            assert!(depth < 60, "order {order}: {depth}");
        }
    }

    proptest! {
        #[test]
        fn a_tree_is_a_sorted_vector(ops in prop::collection::vec((0..100_i64, 0..4_u8, any::<u16>()), 1..600)) {
            let (mut slots, mut tree) = (Slots::default(), Tree::EMPTY);
            let mut model: Vec<TreeKey> = Vec::new();
            for (due, op, pick) in ops {
                if op == 0 && !model.is_empty() {
                    let (_, no) = model.remove(usize::from(pick) % model.len());
                    tree.remove(&mut slots, no);
                    slots.remove(no);
                } else if op == 1 && !model.is_empty() {
                    let first = tree.first(&slots).unwrap();
                    prop_assert_eq!(model.remove(0).1, first);
                    tree.remove(&mut slots, first);
                    slots.remove(first);
                } else {
                    let no = slots.insert(slot_for_test(Time(due)), 0, 0).unwrap();
                    tree.insert(&mut slots, no);
                    let at = model.partition_point(|key| *key < (Time(due), no));
                    model.insert(at, (Time(due), no));
                }
                prop_assert_eq!(tree.len() as usize, model.len());
                prop_assert_eq!(tree.first_due(), model.first().map_or(Time::MAX, |key| key.0));
            }
            let mut walked = Vec::new();
            let mut position = (Time(i64::MIN), 0);
            while let Some(no) = tree.after(&slots, position) {
                position = key_of(&slots, no);
                walked.push(position);
            }
            prop_assert_eq!(walked, model);
        }

        #[test]
        fn a_list_is_two_deques_the_urgent_one_first(
            ops in prop::collection::vec((0..4_u8, any::<bool>(), any::<u16>()), 1..400)
        ) {
            let (mut slots, mut list) = (Slots::default(), List::EMPTY);
            let mut model: [Vec<u32>; 2] = Default::default();
            for (op, urgent, pick) in ops {
                let last = if urgent { model[0].last() } else { model[1].last().or(model[0].last()) };
                prop_assert_eq!(list.back(urgent), last.copied().unwrap_or(NIL));
                let part = &mut model[usize::from(!urgent)];
                match op {
                    0 if !part.is_empty() => {
                        let no = part.remove(usize::from(pick) % part.len());
                        list.remove(&mut slots, no);
                        slots.remove(no);
                    }
                    1 => {
                        let no = slots.insert(Slot { urgent, ..slot_for_test(Time::ZERO) }, 0, 0).unwrap();
                        list.push_front(&mut slots, no);
                        part.insert(0, no);
                    }
                    _ => {
                        let no = slots.insert(Slot { urgent, ..slot_for_test(Time::ZERO) }, 0, 0).unwrap();
                        list.push_back(&mut slots, no);
                        part.push(no);
                    }
                }
                let [first, rest] = &model;
                prop_assert_eq!(list.urgent_len() as usize, first.len());
                prop_assert_eq!(list.head_of_rest(&slots), rest.first().copied().unwrap_or(NIL));
            }
            let model = model.concat();
            let (mut walked, mut back, mut at) = (Vec::new(), Vec::new(), list.head());
            while at != NIL {
                walked.push(at);
                at = slots[at].next;
            }
            let mut at = list.back(false);
            while at != NIL {
                back.insert(0, at);
                at = slots[at].prev;
            }
            prop_assert_eq!((&walked, &back, list.len() as usize), (&model, &model, model.len()));
        }
    }
}
