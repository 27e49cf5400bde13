//! New inputs out of old ones, for where libFuzzer is not: a seeded generator, a handful of changes, a target's own words.
//!
//! The same seed and the same corpus give the same inputs on every machine, so that a failure can be told by two numbers.

/// Longest input that is made.
pub const INPUT_LEN_MAX: usize = 4096;

/// Makes inputs.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// One input: a seed of the corpus with a few changes, or, one time in sixteen, octets without a model.
    pub fn input(&mut self, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut input = match corpus.len() {
            0 => Vec::new(),
            _ if self.below(16) == 0 => (0..self.below(200)).map(|_| self.next() as u8).collect(),
            seeds => corpus[self.below(seeds)].clone(),
        };
        for _ in 0..=self.below(6) {
            self.change(&mut input, corpus, words);
        }
        input.truncate(INPUT_LEN_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
        const TELLING: [u8; 20] = *b"\0\r\n .<>\"\\()=:;,@\x7f\x80\xff-";
        let at = self.below(input.len() + 1);
        let range = at..(at + 1 + self.below(32)).min(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.next() as u8,
            2 => input.insert(at, TELLING[self.below(TELLING.len())]),
            3 if !words.is_empty() => {
                let word = words[self.below(words.len())];
                input.splice(at..at, word.bytes());
            }
            4 if !range.is_empty() => drop(input.drain(range)),
            5 if !range.is_empty() => {
                let piece = input[range].to_vec();
                for _ in 0..=self.below(4) {
                    input.splice(at..at, piece.iter().copied());
                }
            }
            6 if !corpus.is_empty() => {
                // A piece of another seed, to where it never stood.
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                let to = (from + 1 + self.below(64)).min(other.len());
                input.splice(at..at, other[from.min(to)..to].iter().copied());
            }
            7 => input.truncate(at),
            _ => {
                let byte = input.get(at).copied().unwrap_or(b'a');
                let count = 1 << self.below(9);
                input.splice(at..at, std::iter::repeat_n(byte, count));
            }
        }
    }
}
