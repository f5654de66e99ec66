//! Those who have just been answered, and are about to ask for more: a moment's patience with them.
//!
//! A commit costs much the same for two requests as for one, as long as they are few. Whoever is answered while the
//! next batch is being committed misses that batch, so that callers who each wait for an answer before they ask again
//! fall into two halves, each with every second commit. So where few were answered they are told before the next batch
//! is committed, and those of them who ask again at once go along with it.
//!
//! What is patience with those who do not come back? It is tried less and less often until it pays.

/// With more callers than that a commit is no longer the greater part of what they cost: it goes on while they are told.
const CALLERS_MAX: usize = 32;
/// At least every so many batches it is tried whether it pays.
const PAUSE_MAX: u32 = 64;

/// Whether to wait for callers to return.
#[derive(Debug, Default)]
pub(super) struct Returning {
    /// For so many batches it is not tried.
    pause: u32,
    /// So many they were the last time.
    last_pause: u32,
}

impl Returning {
    /// Are so many callers to be waited for once they are told, while so many others wait? To be asked once for each
    /// batch: those for which it is not tried are counted.
    pub(super) fn are_waited_for(&mut self, callers: usize, others: usize) -> bool {
        if !(1..=CALLERS_MAX).contains(&callers) || callers + others < 2 {
            return false;
        }
        let is_tried = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_tried
    }

    /// They were waited for, and so many came.
    pub(super) fn came(&mut self, came: usize, callers: usize) {
        self.last_pause = match came * 2 < callers {
            true => (self.last_pause * 2).clamp(1, PAUSE_MAX),
            false => 0,
        };
        self.pause = self.last_pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a thousand batches whose callers do not come back, few wait for them.
    #[test]
    fn patience_with_those_who_do_not_come_back_is_rare() {
        let mut returning = Returning::default();
        let mut waited = |callers: usize, came: usize| {
            let mut waited = 0;
            for _ in 0..1_000 {
                if returning.are_waited_for(callers, 0) {
                    returning.came(came, callers);
                    waited += 1;
                }
            }
            waited
        };
        assert_eq!(waited(10, 4), 21);
        // It is found out when they do.
        assert!(waited(10, 5) > 900);
        assert_eq!(waited(10, 10), 1_000);
        assert_eq!(waited(CALLERS_MAX + 1, 33), 0);
        assert_eq!(waited(0, 0), 0);
    }
}
