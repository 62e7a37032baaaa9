//! Runs calls of amiquip in the background, and ends those that hang: any call can hang forever, and each ends at once when
//! its socket is shut down. Meanwhile the publisher's thread goes on answering callers.

use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use log::error;

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

/// Runs `call`. If it takes longer than `limit`, another thread shuts the socket down, which ends the call. Returns `None`
/// then, and where that thread cannot start.
pub fn within<T>(limit: Duration, socket: &TcpStream, call: impl FnOnce() -> T) -> Option<T> {
    let end_call = || drop(socket.shutdown(Shutdown::Both));
    let (running, ended) = bounded::<()>(0);
    let watch = move || {
        let is_late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if is_late {
            end_call();
        }
        is_late
    };
    thread::scope(|scope| {
        let watch = thread::Builder::new().spawn_scoped(scope, watch);
        if let Err(error) = &watch {
            // Without the thread, the call could hang forever.
            end_call();
            error!("cannot start a thread that limits the time of calls to RabbitMQ: {error}");
        }
        let value = call();
        drop(running);
        let is_in_time = watch.is_ok_and(|watch| matches!(watch.join(), Ok(false)));
        is_in_time.then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_call_that_hangs_is_ended_and_others_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let call = || (&socket).read(&mut [0]).unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(within(Duration::from_mins(1), &socket, call), Some(1));
        assert_eq!(within(Duration::ZERO, &socket, call), None);
        assert_eq!(call(), 0, "the socket is shut down");
    }
}
