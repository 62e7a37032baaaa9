//! What one run of a template may use, whatever the template and its data are.

use crate::error::Reason;
use crate::{MAX_STEPS, MAX_TEXT_BYTES};

/// How many steps are taken between two checks of the deadline.
const STEPS_BETWEEN_CHECKS: u32 = 256;

/// How many bytes that a function reads or writes count as one step. With `MAX_STEPS` it bounds all that one run computes to
/// 16 MiB.
const BYTES_IN_STEP: usize = 16;

/// Counts the work of one run.
pub struct Meter<'m> {
    steps: u32,
    next_check: u32,
    is_late: &'m dyn Fn() -> bool,
}

impl<'m> Meter<'m> {
    pub fn new(is_late: &'m dyn Fn() -> bool) -> Self {
        Self {
            steps: 0,
            next_check: STEPS_BETWEEN_CHECKS,
            is_late,
        }
    }

    /// A node, a command or a loop's turn.
    pub fn step(&mut self) -> Result<(), Reason> {
        self.add(1)
    }

    /// The bytes that a function reads or writes.
    pub fn bytes(&mut self, count: usize) -> Result<(), Reason> {
        self.add(u32::try_from(count / BYTES_IN_STEP).unwrap_or(u32::MAX))
    }

    fn add(&mut self, steps: u32) -> Result<(), Reason> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS {
            return Err(Reason::TooManySteps);
        }
        if self.steps >= self.next_check {
            self.next_check = self.steps + STEPS_BETWEEN_CHECKS;
            return self.check_deadline();
        }
        Ok(())
    }

    /// For what may take long by itself.
    pub fn check_deadline(&self) -> Result<(), Reason> {
        if (self.is_late)() {
            return Err(Reason::DeadlinePassed);
        }
        Ok(())
    }
}

/// A text that is being written, and stays below the limit.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
        }
    }

    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.check(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub fn push_str(&mut self, text: &str) -> Result<(), Reason> {
        self.push(text.as_bytes())
    }

    pub fn push_char(&mut self, c: char) -> Result<(), Reason> {
        self.push(c.encode_utf8(&mut [0; 4]).as_bytes())
    }

    pub fn repeat(&mut self, byte: u8, count: usize) -> Result<(), Reason> {
        self.check(count)?;
        self.bytes.resize(self.bytes.len() + count, byte);
        Ok(())
    }

    fn check(&self, count: usize) -> Result<(), Reason> {
        if count > MAX_TEXT_BYTES - self.bytes.len() {
            return Err(Reason::TooLong);
        }
        Ok(())
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
