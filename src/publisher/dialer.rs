//! The thread that opens and closes connections: both may take many seconds, and the lookup of a host name has no limit.
//! Meanwhile the publisher's thread goes on answering callers, and ends calls that hang.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::BrokerSettings;
use super::connection::{BrokerConnection, BrokerError, Confirmations, resolve};
use super::error::CloseReason;
use super::watchdog::CallWatchdog;
use crate::amqp_url::AmqpUrl;

const PANICKED: &str = "internal error (please report)";

enum Request {
    Open(Box<(AmqpUrl, BrokerSettings)>),
    Close(Box<BrokerConnection>),
    Reopen {
        connection: Box<BrokerConnection>,
        exchange: String,
        known: Option<CloseReason>,
    },
}

/// What a request came to.
pub enum Reply {
    /// A connection, and where it leads to.
    Opened(Box<BrokerConnection>, String),
    /// No address of the broker could be used; a reason for each.
    NotOpened(Vec<String>),
    /// A channel has ended.
    Closed {
        /// Why it ended.
        reason: CloseReason,
        /// What it had received.
        received: Confirmations,
        /// The connection with another channel; `None` where it has ended, too.
        reopened: Option<Box<BrokerConnection>>,
    },
}

/// The publisher's end. One request at a time; each gets one reply.
pub struct Dialer {
    requests: Sender<Request>,
    /// Where the replies come.
    pub replies: Receiver<Reply>,
}

impl Dialer {
    /// Starts the thread.
    pub fn start(watchdog: Arc<CallWatchdog>) -> io::Result<Self> {
        let (requests, inbox) = unbounded();
        let (outbox, replies) = unbounded();
        let work = move || {
            for request in inbox {
                // The publisher's thread may have ended.
                let _ = outbox.send(execute(request, &watchdog));
            }
        };
        thread::Builder::new()
            .name("dialer".to_owned())
            .spawn(work)?;
        Ok(Self { requests, replies })
    }

    /// Tries every address of a broker.
    pub fn open(&self, url: AmqpUrl, settings: BrokerSettings) {
        // The thread ends with this value only.
        let _ = self.requests.send(Request::Open(Box::new((url, settings))));
    }

    /// Ends a connection. All of its sockets are closed when the reply comes.
    pub fn close(&self, connection: Box<BrokerConnection>) {
        let _ = self.requests.send(Request::Close(connection));
    }

    /// Opens another channel on a connection whose channel has ended, or ends the connection. `known` is why it has ended.
    pub fn reopen(
        &self,
        connection: Box<BrokerConnection>,
        exchange: String,
        known: Option<CloseReason>,
    ) {
        let request = Request::Reopen {
            connection,
            exchange,
            known,
        };
        let _ = self.requests.send(request);
    }
}

fn execute(request: Request, watchdog: &Arc<CallWatchdog>) -> Reply {
    match request {
        Request::Open(target) => {
            let (url, settings) = *target;
            catch_unwind(AssertUnwindSafe(|| open(&url, &settings, watchdog)))
                .unwrap_or_else(|_| Reply::NotOpened(vec![format!("{url}: {PANICKED}")]))
        }
        Request::Close(connection) => closed(connection, |connection| (connection.close(), None)),
        Request::Reopen {
            connection,
            exchange,
            known,
        } => closed(connection, |connection| connection.reopen(&exchange, known)),
    }
}

fn closed(
    connection: Box<BrokerConnection>,
    close: impl FnOnce(BrokerConnection) -> (CloseReason, Option<BrokerConnection>),
) -> Reply {
    let received = connection.confirmations().clone();
    let (reason, reopened) = catch_unwind(AssertUnwindSafe(|| close(*connection)))
        .unwrap_or_else(|_| (CloseReason::Connection(PANICKED.to_owned()), None));
    Reply::Closed {
        reason,
        received,
        reopened: reopened.map(Box::new),
    }
}

fn open(url: &AmqpUrl, settings: &BrokerSettings, watchdog: &Arc<CallWatchdog>) -> Reply {
    let failed = |error: BrokerError| Reply::NotOpened(vec![format!("{url}: {error}")]);
    let addresses = match resolve(url) {
        Ok(addresses) => addresses,
        Err(error) => return failed(error),
    };
    let mut reasons = Vec::new();
    for address in &addresses {
        let name = if addresses.len() > 1 {
            format!("{url} ({})", address.ip())
        } else {
            url.to_string()
        };
        match BrokerConnection::open(url, *address, settings, watchdog) {
            Ok(connection) => return Reply::Opened(Box::new(connection), name),
            Err(error) => reasons.push(format!("{name}: {error}")),
        }
    }
    Reply::NotOpened(reasons)
}
