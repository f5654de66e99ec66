//! Where randomness comes from, so that a simulation can repeat itself.

use std::fmt;

use sidestream_core::{Epoch, Jitter, TaskId};

/// Draws random numbers.
pub trait Chance: Send + Sync + fmt::Debug + 'static {
    /// 64 random bits.
    fn next(&self) -> u64;
}

/// The operating system's randomness: fit for secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where randomness is drawn"
    )]
    fn next(&self) -> u64 {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        u64::from_ne_bytes(bytes)
    }
}

/// The same numbers each time, from a seed. For tests; never for secrets.
#[derive(Debug)]
pub struct SeededChance(std::sync::atomic::AtomicU64);

impl SeededChance {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.into())
    }
}

impl Chance for SeededChance {
    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    fn next(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let order = std::sync::atomic::Ordering::SeqCst;
        let mut z = self.0.fetch_add(GOLDEN, order).wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A new task's id: a UUID of version 4, which holds 122 random bits, as many as a secret needs.
pub(crate) fn task_id(chance: &dyn Chance) -> TaskId {
    let bits = u128::from(chance.next()) << 64 | u128::from(chance.next());
    let uuid = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
    TaskId::new(uuid.to_string()).expect("a UUID is a fit id")
}

/// A new log's name.
pub(crate) fn epoch(chance: &dyn Chance) -> Epoch {
    Epoch::new(&format!("{:016x}", chance.next())).expect("hexadecimal digits are a fit name")
}

/// A random factor.
pub(crate) fn jitter(chance: &dyn Chance) -> Jitter {
    Jitter((chance.next() >> 32) as u32)
}
