//! The configuration in use: read at the start, and read again whenever somebody asks, by a signal or over HTTP, until somebody asks
//! for the end.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::Cli;
use crate::config::{Config, ConfigError, Overrides};
use crate::http::{self, ListenAddress, ReloadError, Routes, Runtime, Server};
use crate::metrics;
use crate::pipeline::EventSink;
use crate::publisher::{self, Publisher};
use crate::systemd::Notifier;

/// Who asks over HTTP for a reload waits so long for what comes of it.
const REPLY_LIMIT: Duration = Duration::from_secs(9);

/// File descriptors that connections may not take: for the broker, the log, the configuration.
const RESERVED_DESCRIPTORS: usize = 64;

/// However few descriptors there are.
const FEWEST_CONNECTIONS: usize = 16;

/// A variable of the environment.
pub fn variable(name: &str) -> Option<Result<String, OsString>> {
    std::env::var_os(name).map(OsString::into_string)
}

/// Reads and checks the configuration, and logs what is probably not meant in it.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
    let config = Config::load(path, overrides, &variable)?;
    for warning in &config.warnings {
        warn!("configuration: {warning}");
    }
    Ok(config)
}

/// What came of a reload; the reasons are lines.
type ReloadOutcome = Result<(), Vec<String>>;

/// What the main thread is asked for.
pub enum Command {
    /// For the end, by this signal.
    Stop(i32),
    /// For a reload. Who asked over HTTP wants to know what came of it.
    Reload(Option<Sender<ReloadOutcome>>),
}

/// Passes signals on to the main thread.
pub fn watch_signals(command: Sender<Command>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let pass_on = move || {
        for signal in signals.forever() {
            let asked = if signal == SIGHUP {
                Command::Reload(None)
            } else {
                Command::Stop(signal)
            };
            if command.send(asked).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(pass_on)
        .map(drop)
}

/// Reads the configuration in a thread of its own: where that takes long, the main thread still hears of signals.
fn load_in_background(cli: &Cli) -> Receiver<Result<Config, Vec<String>>> {
    let (done, loaded) = bounded(1);
    let (path, overrides) = (cli.config.clone(), cli.overrides.clone());
    let read = move || {
        let lines = |error: ConfigError| {
            error
                .to_string()
                .lines()
                .map(|line| line.trim_start().to_owned())
                .collect()
        };
        let _ = done.send(load(&path, &overrides).map_err(lines));
    };
    // Where there is no thread, what it would have sent by is gone, which is seen.
    let _ = thread::Builder::new().name("reload".to_owned()).spawn(read);
    loaded
}

/// Has the main thread reload, and waits for what comes of it.
pub fn ask_to_reload(command: &Sender<Command>) -> Result<(), ReloadError> {
    let (reply, outcome) = bounded(1);
    if command.send(Command::Reload(Some(reply))).is_err() {
        return Err(ReloadError::Unfinished);
    }
    match outcome.recv_timeout(REPLY_LIMIT) {
        Ok(outcome) => outcome.map_err(ReloadError::Refused),
        Err(_) => Err(ReloadError::Unfinished),
    }
}

/// How many connections at once are possible.
pub fn connections(settings: &http::Settings) -> usize {
    let wanted = settings.max_connections;
    match metrics::max_open_files() {
        Some(limit) if wanted + RESERVED_DESCRIPTORS > limit => {
            let possible = limit
                .saturating_sub(RESERVED_DESCRIPTORS)
                .max(FEWEST_CONNECTIONS);
            warn!(limit, connections = possible; "file descriptors are limited (ulimit -n): fewer connections than http.max_connections");
            possible
        }
        _ => wanted,
    }
}

/// What the configuration in use has made.
pub struct ReloadController<'s> {
    /// What the publisher was started with.
    pub broker: publisher::Settings,
    /// Where the server was told to listen.
    pub listen: ListenAddress,
    /// Who answers.
    pub routes: &'s Routes,
    /// Who listens.
    pub server: &'s Server,
    /// For the next publisher.
    pub metrics: metrics::BrokerMetrics,
    /// How reloads end.
    pub reloads: metrics::ReloadMetrics,
    /// Whether the file holds another configuration, which is faulty.
    pub stale: &'s AtomicBool,
}

impl ReloadController<'_> {
    /// Reloads whenever somebody asks, until a signal asks for the end: which one.
    pub fn run(&mut self, cli: &Cli, commands: &Receiver<Command>, notifier: &Notifier) -> i32 {
        // Whoever asks while the file is being read may have changed it since: it is read once more, and one at a time.
        let mut asked: Vec<Option<Sender<ReloadOutcome>>> = Vec::new();
        let mut loading = never();
        loop {
            select! {
                recv(commands) -> command => match command {
                    Ok(Command::Reload(reply)) => {
                        asked.push(reply);
                        if asked.len() > 1 {
                            continue;
                        }
                    }
                    Ok(Command::Stop(signal)) => return signal,
                    // Those who watch for signals have a sender for as long as the process lives.
                    Err(_) => return SIGTERM,
                },
                recv(loading) -> loaded => {
                    let outcome = self.replace_by(loaded.unwrap_or_else(|_| Err(vec!["there is no thread to read it in".to_owned()])));
                    self.reloads.reloaded(outcome.is_ok());
                    self.stale.store(outcome.is_err(), Ordering::Relaxed);
                    notifier.reloaded();
                    if let Some(reply) = asked.remove(0) {
                        // Who asked may be gone.
                        let _ = reply.try_send(outcome);
                    }
                }
            }
            loading = if asked.is_empty() {
                never()
            } else {
                notifier.reloading();
                load_in_background(cli)
            };
        }
    }

    /// Puts what has been read in place of what is in use. A faulty configuration is refused as a whole, and the one in use stays; then
    /// the reasons come back.
    fn replace_by(&mut self, loaded: Result<Config, Vec<String>>) -> Result<(), Vec<String>> {
        let replaced = loaded.and_then(|config| match self.sink(&config.publisher) {
            Ok(sink) => {
                self.replace(config, sink);
                Ok(())
            }
            Err(error) => Err(vec![format!("can't start the publisher: {error}")]),
        });
        if let Err(reasons) = &replaced {
            error!("the configuration is not reloaded; the one before stays in use");
            for reason in reasons {
                error!("{reason}");
            }
        }
        replaced
    }

    /// The publisher in use, if it is still the right one. Another one starts beside it: what is under way stays with the old one,
    /// which ends with its last notification.
    fn sink(&self, broker: &publisher::Settings) -> io::Result<Arc<EventSink>> {
        let current = Arc::clone(&self.routes.runtime().sink);
        match &*current {
            EventSink::Broker(_) if *broker != self.broker => {
                Publisher::start(broker.clone(), self.metrics.clone())
                    .map(|publisher| Arc::new(EventSink::Broker(publisher)))
            }
            EventSink::Broker(_) | EventSink::Stream(_) => Ok(current),
        }
    }

    fn replace(&mut self, config: Config, sink: Arc<EventSink>) {
        if config.http.listen != self.listen {
            warn!(now:% = self.server.address(), changed_to:% = config.http.listen; "http.listen has changed: it takes effect at the next restart");
        }
        let broker_changed = config.publisher != self.broker;
        self.server.resize(connections(&config.http));
        self.broker = config.publisher;
        self.routes.replace(Runtime {
            settings: config.http,
            mapping: config.mapping,
            sink,
        });
        info!(broker_changed; "configuration reloaded");
    }
}
