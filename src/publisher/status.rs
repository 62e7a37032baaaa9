//! How the broker is doing, for whoever asks from another thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::metrics::{BrokerSnapshot, FailureReason};

/// The state of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No connection; why not, as far as is known.
    Away(Option<String>),
    Connected,
    /// Connected, and the broker takes nothing: a memory or disk alarm.
    Blocked(String),
}

/// The shared view of the connection's state.
#[derive(Debug)]
pub struct Status {
    state: Mutex<State>,
    in_flight: AtomicUsize,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::Away(None)),
            in_flight: AtomicUsize::new(0),
        }
    }
}

impl Status {
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn connected(&self) {
        self.set(State::Connected);
    }

    pub(super) fn blocked(&self, reason: &str) {
        self.set(State::Blocked(reason.to_owned()));
    }

    pub(super) fn away(&self, reason: Option<String>) {
        self.set(State::Away(reason));
    }

    /// So many messages are published and not confirmed.
    pub(super) fn in_flight(&self, messages: usize) {
        self.in_flight.store(messages, Ordering::Relaxed);
    }

    /// For a page of metrics; how much waits is known elsewhere.
    pub(super) fn now(&self) -> BrokerSnapshot {
        let (connected, blocked) = match *self.state.lock().unwrap_or_else(PoisonError::into_inner)
        {
            State::Connected => (true, false),
            State::Blocked(_) => (true, true),
            State::Away(_) => (false, false),
        };
        BrokerSnapshot {
            connected,
            blocked,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            waiting: 0,
        }
    }

    /// Why something does not get through that has failed for no reason of its own.
    pub(super) fn failure(&self) -> FailureReason {
        match self.now() {
            BrokerSnapshot { blocked: true, .. } => FailureReason::Blocked,
            BrokerSnapshot {
                connected: true, ..
            } => FailureReason::Timeout,
            BrokerSnapshot { .. } => FailureReason::Disconnected,
        }
    }

    /// Whether a connection is open and not blocked.
    pub fn is_ready(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Connected
    }

    /// Whether a connection is open, blocked or not.
    pub(super) fn is_connected(&self) -> bool {
        !matches!(
            *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            State::Away(_)
        )
    }

    /// For anybody: without where the broker is.
    pub fn outline(&self) -> &'static str {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Connected => "connected",
            State::Blocked(_) => "the broker has blocked publishing",
            State::Away(_) => "no connection to the broker",
        }
    }

    /// For people who look at the service.
    pub fn headline(&self) -> String {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Connected => "connected to the broker".to_owned(),
            State::Blocked(reason) => format!("the broker has blocked publishing ({reason})"),
            State::Away(None) => "connecting to the broker".to_owned(),
            State::Away(Some(reason)) => format!("no connection to the broker: {reason}"),
        }
    }

    /// For people who may know, when something does not get through.
    pub fn describe(&self) -> String {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Connected => "the broker is connected, and its confirm has not come".to_owned(),
            State::Blocked(reason) => format!("the broker has blocked publishing ({reason})"),
            State::Away(None) => "no connection to the broker yet".to_owned(),
            State::Away(Some(reason)) => format!("no connection to the broker: {reason}"),
        }
    }
}
