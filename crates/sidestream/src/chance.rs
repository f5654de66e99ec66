//! Where randomness comes from, so that a simulation can repeat itself.

use std::fmt;

use sidestream_core::{Epoch, Jitter, TaskId, Timestamp};

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

/// A new task's id: when it was made, so that those made together stand together in an index, and 128 random
/// bits, more than a secret needs. 36 characters, of Crockford's base 32: `01kahn3d5-` and 26 more.
pub(crate) fn task_id(chance: &dyn Chance, now: Timestamp) -> TaskId {
    let ms = u64::try_from(now.ms()).unwrap_or(0);
    let random = u128::from(chance.next()) << 64 | u128::from(chance.next());
    let mut id = String::with_capacity(36);
    id.extend(digits(ms.into(), 9));
    id.push('-');
    id.extend(digits(random, 26));
    TaskId::new(id).expect("36 letters and digits are a fit id")
}

/// The last digits of a number in base 32, the highest first.
fn digits(number: u128, count: u32) -> impl Iterator<Item = char> {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let shifts = (0..count).rev().map(|place| 5 * place);
    shifts.map(move |shift| char::from(DIGITS[(number >> shift & 31) as usize]))
}

/// A new log's name.
pub(crate) fn epoch(chance: &dyn Chance) -> Epoch {
    Epoch::new(&format!("{:016x}", chance.next())).expect("hexadecimal digits are a fit name")
}

/// A random factor.
pub(crate) fn jitter(chance: &dyn Chance) -> Jitter {
    Jitter((chance.next() >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_time_and_are_not_to_be_guessed() {
        let chance = SeededChance::new(7);
        let ms = [
            0,
            1,
            31,
            32,
            1_700_000_000_000,
            1_700_000_000_001,
            32_503_680_000_000,
        ];
        let ids = ms.map(|ms| task_id(&chance, Timestamp::from_ms(ms)));
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.iter().all(|id| id.as_str().len() == 36), "{ids:?}");
        // Of one millisecond, each of the 26 digits is any of 32.
        let random: Vec<Vec<u8>> = (0..4_000)
            .map(|_| task_id(&chance, Timestamp::from_ms(1)).as_str().as_bytes()[10..].to_vec())
            .collect();
        for place in 0..26 {
            let seen: std::collections::BTreeSet<u8> = random.iter().map(|id| id[place]).collect();
            // 128 bits are 25 digits and three bits.
            assert_eq!(seen.len(), if place == 0 { 8 } else { 32 }, "{place}");
        }
    }
}
