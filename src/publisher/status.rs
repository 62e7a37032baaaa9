//! How the broker is doing, for whoever asks from another thread.

use std::sync::{Mutex, PoisonError};

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
pub struct Status(Mutex<State>);

impl Default for Status {
    fn default() -> Self {
        Self(Mutex::new(State::Away(None)))
    }
}

impl Status {
    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
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

    /// Whether a connection is open and not blocked.
    pub fn is_ready(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == State::Connected
    }

    /// Whether a connection is open, blocked or not.
    pub(super) fn is_connected(&self) -> bool {
        !matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), State::Away(_))
    }

    /// For anybody: without where the broker is.
    pub fn outline(&self) -> &'static str {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Connected => "connected",
            State::Blocked(_) => "the broker has blocked publishing",
            State::Away(_) => "no connection to the broker",
        }
    }

    /// For people who look at the service.
    pub fn headline(&self) -> String {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Connected => "connected to the broker".to_owned(),
            State::Blocked(reason) => format!("the broker has blocked publishing ({reason})"),
            State::Away(None) => "connecting to the broker".to_owned(),
            State::Away(Some(reason)) => format!("no connection to the broker: {reason}"),
        }
    }

    /// For people who may know, when something does not get through.
    pub fn describe(&self) -> String {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Connected => "the broker is connected, and its confirm has not come".to_owned(),
            State::Blocked(reason) => format!("the broker has blocked publishing ({reason})"),
            State::Away(None) => "no connection to the broker yet".to_owned(),
            State::Away(Some(reason)) => format!("no connection to the broker: {reason}"),
        }
    }
}
