//! Ends calls of the AMQP library that hang: any call can hang forever, and each ends at once when its socket is shut down.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Shuts a socket down when a call on it takes too long. One call at a time.
#[derive(Debug)]
pub struct CallWatchdog(Arc<WatchCell>);

#[derive(Debug, Default)]
struct WatchCell {
    state: Mutex<WatchState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct WatchState {
    watched: Option<(Instant, Arc<TcpStream>)>,
    /// When the thread wakes up by itself. `None` while it waits for a call.
    wakes_at: Option<Instant>,
    is_stopped: bool,
}

impl CallWatchdog {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(WatchCell::default());
        let watching = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watching.watch())?;
        Ok(Self(shared))
    }

    /// Runs `call`. If it takes longer than `limit`, the socket is shut down, which ends the call with an error.
    pub fn within<T>(
        &self,
        limit: Duration,
        socket: &Arc<TcpStream>,
        call: impl FnOnce() -> T,
    ) -> WatchedCall<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.0.state.lock();
        state.watched = Some((deadline, Arc::clone(socket)));
        // Waking the thread costs more than most calls take: only where it would wake up too late by itself.
        if state.wakes_at.is_none_or(|wakes_at| deadline < wakes_at) {
            state.wakes_at = Some(deadline);
            self.0.wake.notify_one();
        }
        drop(state);
        let disarm = Disarm(&self.0);
        let value = call();
        let in_time = disarm.0.state.lock().watched.take().is_some();
        WatchedCall { value, in_time }
    }
}

/// The result of a watched call.
#[derive(Debug)]
pub struct WatchedCall<T> {
    /// What the call returned.
    pub value: T,
    /// It returned before its socket was shut down.
    pub in_time: bool,
}

/// Ends the watch also where the call panics.
struct Disarm<'a>(&'a WatchCell);

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        self.0.state.lock().watched = None;
    }
}

impl Drop for CallWatchdog {
    fn drop(&mut self) {
        self.0.state.lock().is_stopped = true;
        self.0.wake.notify_one();
    }
}

impl WatchCell {
    fn watch(&self) {
        let mut state = self.state.lock();
        while !state.is_stopped {
            let Some((deadline, socket)) = &state.watched else {
                state.wakes_at = None;
                self.wake.wait(&mut state);
                continue;
            };
            let deadline = *deadline;
            if deadline <= Instant::now() {
                let _ = socket.shutdown(Shutdown::Both);
                state.watched = None;
                continue;
            }
            state.wakes_at = Some(deadline);
            self.wake.wait_until(&mut state, deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_call_that_hangs_is_ended_and_others_are_not() {
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
