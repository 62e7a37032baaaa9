//! The kill switch: any call of the AMQP library can hang for ever, and each ends at once when its socket is shut down.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shuts a socket down when a call on it takes too long. One call at a time.
#[derive(Debug)]
pub struct CallWatchdog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    watched: Option<(Instant, Arc<TcpStream>)>,
    /// When the thread looks next by itself; never, while it waits for something to watch.
    looks_at: Option<Instant>,
    ended: bool,
}

impl CallWatchdog {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watching = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watching.watch())?;
        Ok(Self(shared))
    }

    /// Runs `call`; should it take longer than `limit`, the socket is shut down, which ends the call with an error.
    pub fn within<T>(
        &self,
        limit: Duration,
        socket: &Arc<TcpStream>,
        call: impl FnOnce() -> T,
    ) -> Outcome<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.0.lock();
        state.watched = Some((deadline, Arc::clone(socket)));
        // Waking the thread costs more than most calls take: only where it would come too late by itself.
        if state.looks_at.is_none_or(|looks_at| deadline < looks_at) {
            state.looks_at = Some(deadline);
            self.0.wake.notify_one();
        }
        drop(state);
        let disarm = Disarm(&self.0);
        let value = call();
        let in_time = disarm.0.lock().watched.take().is_some();
        Outcome { value, in_time }
    }
}

/// What a watched call gave.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The call's own value.
    pub value: T,
    /// Whether it ended before its socket was shut down.
    pub in_time: bool,
}

/// Ends the watch also where the call panics.
struct Disarm<'a>(&'a Shared);

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        self.0.lock().watched = None;
    }
}

impl Drop for CallWatchdog {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut state = self.lock();
        while !state.ended {
            let deadline = match &state.watched {
                None => {
                    state.looks_at = None;
                    state = self
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some((deadline, _)) => *deadline,
            };
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                if let Some((_, socket)) = state.watched.take() {
                    let _ = socket.shutdown(Shutdown::Both);
                }
                continue;
            }
            state.looks_at = Some(deadline);
            state = self
                .wake
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn ends_a_call_that_hangs_and_leaves_others_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (_peer, _) = listener.accept().unwrap();
        let watchdog = CallWatchdog::start().unwrap();
        for _ in 0..100 {
            assert!(
                watchdog
                    .within(Duration::from_mins(1), &socket, || 1)
                    .in_time
            );
        }
        let hung = watchdog.within(Duration::from_millis(50), &socket, || {
            (&*socket).read(&mut [0])
        });
        assert!(!hung.in_time);
        assert_eq!(hung.value.unwrap(), 0);
    }
}
