//! Limits the memory for the bodies of all requests together.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The first bytes of each body are not charged, so that large bodies cannot block ordinary ones. Times the number of
/// connections, they are what bodies can take besides the budget.
pub const FREE_BYTES: usize = 64 << 10;

/// The bytes that all bodies together may hold beyond what is free.
#[derive(Debug)]
pub struct Budget(AtomicUsize);

impl Budget {
    /// A budget of a number of bytes.
    pub fn new(bytes: usize) -> Self {
        Self(AtomicUsize::new(bytes))
    }
}

/// A body that holds its share of the budget until it is dropped.
#[derive(Debug)]
pub struct BodyBytes {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
    taken: usize,
}

impl BodyBytes {
    /// An empty body.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self {
            bytes: Vec::new(),
            budget: Arc::clone(budget),
            taken: 0,
        }
    }

    /// Wraps bytes without a copy; `None` where the budget does not allow it.
    pub fn of(budget: &Arc<Budget>, bytes: Vec<u8>) -> Option<Self> {
        let mut body = Self::new(budget);
        if !body.reserve(bytes.len()) {
            return None;
        }
        body.bytes = bytes;
        Some(body)
    }

    /// Adds bytes; false where the budget does not allow it.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let fits = self.reserve(bytes.len());
        if fits {
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    fn reserve(&mut self, more: usize) -> bool {
        let needed = (self.bytes.len() + more)
            .saturating_sub(FREE_BYTES)
            .saturating_sub(self.taken);
        let take = |left: usize| left.checked_sub(needed);
        if needed > 0
            && self
                .budget
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_err()
        {
            return false;
        }
        self.taken += needed;
        true
    }
}

impl Deref for BodyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BodyBytes {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.taken, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_are_free_and_large_ones_share() {
        let budget = Arc::new(Budget::new(100));
        let (mut one, mut other) = (BodyBytes::new(&budget), BodyBytes::new(&budget));
        assert!(one.push(&vec![0; FREE_BYTES]) && one.push(&[0; 60]));
        assert!(other.push(&vec![0; FREE_BYTES + 40]) && !other.push(&[0]));
        assert_eq!(other.len(), FREE_BYTES + 40);
        drop(one);
        assert!(other.push(&[0; 60]) && !other.push(&[0]));
        drop(other);
        assert!(BodyBytes::of(&budget, vec![0; FREE_BYTES + 101]).is_none());
        let third = BodyBytes::of(&budget, vec![0; FREE_BYTES + 100]).unwrap();
        assert_eq!(
            (third.len(), budget.0.load(Ordering::SeqCst)),
            (FREE_BYTES + 100, 0)
        );
        drop(third);
        assert_eq!(budget.0.load(Ordering::SeqCst), 100);
    }
}
