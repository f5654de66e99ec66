//! What was needed of late, at hand: two generations, of which the older goes when the younger is full.

use std::hash::Hash;

use hashbrown::hash_map::IntoIter;
use hashbrown::{Equivalent, HashMap};

/// The most that a generation holds, in bytes.
const GENERATION_BYTES_MAX: usize = 16 * 1_048_576;

/// Things at hand, in bounded memory.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
    /// A generation that is no longer at hand: let go of bit by bit, because thousands of things at once would
    /// hold up whoever waits.
    going: IntoIter<K, (V, usize)>,
    turns: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            going: HashMap::new().into_iter(),
            turns: 0,
        }
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Keeps a thing of roughly so many bytes, in place of the one that had its key. Says whether one had.
    pub(super) fn keep(&mut self, key: K, value: V, bytes: usize) -> bool {
        if self.young_bytes + bytes > GENERATION_BYTES_MAX {
            // As large at once as it will become: growing bit by bit hashes everything again and again.
            let next = HashMap::with_capacity(self.young.len());
            let full = std::mem::replace(&mut self.young, next);
            let gone = std::mem::replace(&mut self.old, full);
            self.going = gone.into_iter();
            self.young_bytes = 0;
            self.turns += 1;
        }
        // More than come in: it is empty when the next one goes, if things are of much the same size.
        self.going.by_ref().take(4).for_each(drop);
        self.young_bytes += bytes;
        let was_old = self.old.remove(&key).is_some();
        match self.young.insert(key, (value, bytes)) {
            Some((_, before)) => {
                self.young_bytes = self.young_bytes.saturating_sub(before);
                true
            }
            None => was_old,
        }
    }

    /// How often the older generation has gone. While it has not, nothing was forgotten.
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    /// As [`Recent::get`], but leaves everything where it is: a look is no need.
    pub(super) fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let found = self.young.get(key).or_else(|| self.old.get(key));
        found.map(|(value, _)| value.clone())
    }

    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, bytes)) = self.old.remove_entry(key)?;
        self.keep(key, value.clone(), bytes);
        Some(value)
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.old.remove(key);
        if let Some((_, bytes)) = self.young.remove(key) {
            self.young_bytes = self.young_bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn clear(&mut self) {
        let turns = self.turns + 1;
        *self = Self {
            turns,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stays_and_the_rest_goes() {
        let mut recent = Recent::default();
        let third = GENERATION_BYTES_MAX / 3;
        for n in 0..100 {
            recent.keep(n, n * n, third);
            assert_eq!(recent.get(&0), Some(0), "needed each time");
        }
        assert_eq!(recent.get(&99), Some(9_801));
        assert_eq!(recent.get(&50), None);
        assert!(recent.young.len() + recent.old.len() <= 6);
        assert_eq!(recent.going.len(), 0, "what went is let go of");
        assert_eq!(recent.peek(&99), Some(9_801));
        let first_old = recent.old.keys().next().copied();
        let first_old = first_old.expect("there is an older generation");
        assert_eq!(recent.peek(&first_old), Some(first_old * first_old));
        assert!(recent.old.contains_key(&first_old), "a look moves nothing");
        recent.remove(&99);
        assert_eq!(recent.get(&99), None);
    }
}
