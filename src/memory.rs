//! One limit for the memory of all notifications together.
//!
//! Whatever holds bytes of a notification (its body, decoded form, encoded events, bookkeeping) holds a [`Charge`] for them,
//! from the first byte of the body to the response. Growing either succeeds at once or fails at once: nothing waits for memory,
//! so nothing can deadlock. This module knows no thread, socket or clock, and not what the bytes are for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A charge up to this size is small: it may use the reserve. A notification with one alert takes less than 16 KiB.
pub const MAX_SMALL_BYTES: usize = 64 << 10;

/// This part of the limit is the reserve for small charges, so that large notifications cannot block small ones.
const RESERVED_PART: usize = 4;

/// Why a charge was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// Other notifications use the memory now, up to this limit: a later attempt may succeed.
    #[error("memory for notifications is used up ({} MiB)", .0 >> 20)]
    Full(usize),
    /// It is more than this limit for one notification.
    #[error("notification needs more than {} MiB of memory", .0 >> 20)]
    NeverFits(usize),
}

/// The limit, and how much of it is used.
#[derive(Debug)]
pub struct Budget {
    /// The most bytes that are ever charged.
    pub limit: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

/// Bytes that are charged to a budget until this is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// A charge of no bytes yet.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }

    /// The bytes that are charged now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// How often a charge was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The most bytes that are charged by and beside a charge of this size.
    fn limit_for(&self, bytes: usize) -> usize {
        if bytes <= MAX_SMALL_BYTES {
            self.limit
        } else {
            self.limit - self.limit / RESERVED_PART
        }
    }
}

impl Charge {
    /// Adds bytes. After an error, the charge is as it was.
    pub fn grow(&mut self, more: usize) -> Result<(), BudgetError> {
        let bytes = self.bytes.saturating_add(more);
        let limit = self.budget.limit_for(bytes);
        let add = |used: usize| used.checked_add(more).filter(|used| *used <= limit);
        let used = &self.budget.used;
        let added = used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
        // Growing by 0 must not fail where small charges use the reserve beside a large one.
        if added.is_err() && more > 0 {
            self.budget.refused.fetch_add(1, Ordering::Relaxed);
            return Err(if bytes > limit {
                BudgetError::NeverFits(limit)
            } else {
                BudgetError::Full(limit)
            });
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back all but `bytes`; does nothing where the charge is smaller.
    pub fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        self.bytes -= excess;
        self.budget.used.fetch_sub(excess, Ordering::SeqCst);
    }

    /// The bytes of this charge.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 16 * MAX_SMALL_BYTES;
    const LIMIT_OF_LARGE: usize = 12 * MAX_SMALL_BYTES;

    #[derive(Debug, Clone)]
    enum Step {
        Charge(usize),
        Grow(usize, usize),
        ShrinkTo(usize, usize),
        Drop(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = || prop_oneof![0..MAX_SMALL_BYTES + 2, 0..LIMIT + 2, Just(usize::MAX)];
        let step = prop_oneof![
            bytes().prop_map(Step::Charge),
            (any::<usize>(), bytes()).prop_map(|(which, more)| Step::Grow(which, more)),
            (any::<usize>(), bytes()).prop_map(|(which, bytes)| Step::ShrinkTo(which, bytes)),
            any::<usize>().prop_map(Step::Drop),
        ];
        vec(step, 1..60)
    }

    /// What the budget has to answer, by the sizes of all other charges.
    fn expected(others: usize, old: usize, more: usize) -> Result<(), BudgetError> {
        let new = old.saturating_add(more);
        let limit = if new <= MAX_SMALL_BYTES {
            LIMIT
        } else {
            LIMIT_OF_LARGE
        };
        if more == 0 || others.saturating_add(new) <= limit {
            Ok(())
        } else if new > limit {
            Err(BudgetError::NeverFits(limit))
        } else {
            Err(BudgetError::Full(limit))
        }
    }

    proptest! {
        #[test]
        fn used_bytes_are_the_sum_of_all_charges_and_within_the_limits(steps in steps()) {
            let budget = Budget::new(LIMIT);
            let mut charges: Vec<Charge> = Vec::new();
            let mut refused = 0;
            for step in steps {
                let before: Vec<usize> = charges.iter().map(Charge::bytes).collect();
                let sum: usize = before.iter().sum();
                let count = charges.len();
                match step {
                    Step::Charge(bytes) => {
                        let mut charge = budget.charge();
                        let grown = charge.grow(bytes);
                        prop_assert_eq!(grown, expected(sum, 0, bytes));
                        refused += u64::from(grown.is_err());
                        charges.push(charge);
                    }
                    Step::Grow(which, more) if count > 0 => {
                        let (which, old) = (which % count, before[which % count]);
                        let grown = charges[which].grow(more);
                        prop_assert_eq!(grown, expected(sum - old, old, more));
                        refused += u64::from(grown.is_err());
                        let new = if grown.is_ok() { old + more } else { old };
                        prop_assert_eq!(charges[which].bytes(), new);
                    }
                    Step::ShrinkTo(which, bytes) if count > 0 => {
                        let which = which % count;
                        charges[which].shrink_to(bytes);
                        prop_assert_eq!(charges[which].bytes(), before[which].min(bytes));
                    }
                    Step::Drop(which) if count > 0 => drop(charges.swap_remove(which % count)),
                    _ => {}
                }
                let sizes: Vec<usize> = charges.iter().map(Charge::bytes).collect();
                prop_assert_eq!(budget.used(), sizes.iter().sum::<usize>());
                prop_assert!(budget.used() <= budget.limit);
                prop_assert_eq!(budget.refused(), refused);
                // However much large charges use, a quarter is left for small ones.
                let large: usize = sizes.iter().filter(|bytes| **bytes > MAX_SMALL_BYTES).sum();
                prop_assert!(large <= LIMIT_OF_LARGE);
            }
            drop(charges);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_large_charge_may_fill_its_part_and_stays_while_small_ones_use_the_reserve() {
        let budget = Budget::new(LIMIT);
        let (mut large, mut small) = (budget.charge(), budget.charge());
        large.grow(LIMIT_OF_LARGE).unwrap();
        small.grow(1).unwrap();
        assert_eq!(large.grow(0), Ok(()), "what it has already is refused");
        let limit = LIMIT_OF_LARGE;
        let another = budget.charge().grow(limit);
        assert_eq!(another, Err(BudgetError::Full(limit)), "a retry fits");
    }

    #[test]
    fn threads_share_the_budget_without_exceeding_it() {
        let budget = Budget::new(LIMIT);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let mut charge = budget.charge();
                        let _ = charge.grow(round % MAX_SMALL_BYTES);
                        let _ = charge.grow(MAX_SMALL_BYTES);
                        assert!(budget.used() <= LIMIT);
                        charge.shrink_to(round);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
