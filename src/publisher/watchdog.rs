//! Runs calls of amiquip in the background, and ends those that hang: any call can hang forever, and each ends at once when
//! its socket is shut down. Meanwhile the publisher's thread goes on answering callers.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use log::error;
use parking_lot::Mutex;

/// Runs calls on a thread, and returns where their result comes. The channel ends without one where they panic, or no thread
/// can start.
pub fn in_background<T: Send + 'static>(calls: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, result) = bounded(1);
    // The publisher's thread may have ended.
    let work = move || drop(sender.send(calls()));
    if let Err(error) = thread::Builder::new().name("dialer".to_owned()).spawn(work) {
        error!("cannot start a thread for the connection to RabbitMQ: {error}");
    }
    result
}

/// The call that runs now: when it has to be over, and its socket.
#[derive(Debug, Default)]
pub struct CallWatchdog(Mutex<Option<(Instant, Weak<TcpStream>)>>);

impl CallWatchdog {
    /// Runs `call`. If it takes longer than `limit`, the next check shuts the socket down, which ends the call: `None`.
    pub fn within<T>(
        &self,
        limit: Duration,
        socket: &Arc<TcpStream>,
        call: impl FnOnce() -> T,
    ) -> Option<T> {
        *self.0.lock() = Some((Instant::now() + limit, Arc::downgrade(socket)));
        // Where it panics, its socket is closed, and a check does nothing.
        let value = call();
        self.0.lock().take().map(|_| value)
    }

    /// Ends the call that runs, if it takes too long.
    pub fn check(&self) {
        let is_late = |(deadline, _): &mut (Instant, _)| *deadline <= Instant::now();
        let late = self.0.lock().take_if(is_late);
        if let Some(socket) = late.and_then(|(_, socket)| socket.upgrade()) {
            let _ = socket.shutdown(Shutdown::Both);
        }
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
