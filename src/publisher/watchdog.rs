//! Ends calls of amiquip that hang: any call can hang forever, and each ends at once when its socket is shut down.
//!
//! The dialer makes the calls that can hang, and the publisher's thread checks them each second.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The call that runs now: when it has to be over, and its socket.
#[derive(Debug, Default)]
pub struct CallWatchdog(Mutex<Option<(Instant, Arc<TcpStream>)>>);

impl CallWatchdog {
    /// Runs `call`. If it takes longer than `limit`, the next check shuts the socket down, which ends the call: `None`.
    pub fn within<T>(
        &self,
        limit: Duration,
        socket: &Arc<TcpStream>,
        call: impl FnOnce() -> T,
    ) -> Option<T> {
        *self.0.lock() = Some((Instant::now() + limit, Arc::clone(socket)));
        let _disarm = Disarm(self);
        let value = call();
        self.0.lock().take().map(|_| value)
    }

    /// Ends the call that runs, if it takes too long.
    pub fn check(&self) {
        let is_late = |(deadline, _): &mut (Instant, _)| *deadline <= Instant::now();
        if let Some((_, socket)) = self.0.lock().take_if(is_late) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Ends the watch also where the call panics.
struct Disarm<'w>(&'w CallWatchdog);

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_call_that_hangs_is_ended_and_others_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (_peer, _) = listener.accept().unwrap();
        let watchdog = CallWatchdog::default();
        watchdog.check();
        let in_time = watchdog.within(Duration::from_mins(1), &socket, || watchdog.check());
        assert!(in_time.is_some());
        let read = || assert_eq!((&*socket).read(&mut [0]).unwrap(), 0);
        let hung = thread::scope(|scope| {
            let hung = scope.spawn(|| watchdog.within(Duration::ZERO, &socket, read));
            while !hung.is_finished() {
                watchdog.check();
                thread::yield_now();
            }
            hung.join().unwrap()
        });
        assert!(hung.is_none());
    }
}
