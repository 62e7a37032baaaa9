//! Loads the configuration, and replaces it at run time: on SIGHUP or `POST /-/reload`, until a signal asks for shutdown.
//!
//! A configuration with errors is rejected as a whole. Loading happens in a background thread, so that a slow file system
//! does not delay a shutdown.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::Cli;
use crate::config::{Config, ConfigError, Environment, Overrides};
use crate::http::{self, ActiveConfig, Application, ListenAddress, ReloadError, Server};
use crate::metrics;
use crate::pipeline::EventSink;
use crate::publisher;
use crate::systemd::Notifier;

/// How long `POST /-/reload` waits for the result: below the 10 s after which senders give up.
const RESULT_TIMEOUT: Duration = Duration::from_secs(9);

/// File descriptors that connections must leave for the broker, the log and the configuration.
const RESERVED_FILES: usize = 64;

/// The lower limit of `http.max_connections` where file descriptors are scarce.
const MIN_LOWERED_CONNECTIONS: usize = 16;

/// Reads and checks the configuration, and logs its warnings.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
    let config = Config::load(path, overrides, &Environment::of_process())?;
    for warning in &config.warnings {
        warn!("configuration: {warning}");
    }
    Ok(config)
}

/// The result of a reload, with a line for each error.
type ReloadResult = Result<(), Vec<String>>;

/// The result of reading a configuration, with a line for each error.
type LoadResult = Result<Config, Vec<String>>;

/// A request to the main thread.
pub enum Command {
    /// Shut down because of this signal.
    Stop(i32),
    /// Reload the configuration, and send the result where one is awaited.
    Reload(Option<Sender<ReloadResult>>),
}

/// Starts a thread that turns signals into commands.
pub fn watch_signals(commands: Sender<Command>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let forward = move || {
        for signal in signals.forever() {
            let command = match signal {
                SIGHUP => Command::Reload(None),
                _ => Command::Stop(signal),
            };
            if commands.send(command).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(forward)
        .map(drop)
}

fn load_in_background(cli: &Cli) -> Receiver<LoadResult> {
    let (path, overrides) = (cli.config.clone(), cli.overrides.clone());
    let lines = |error: ConfigError| {
        let text = error.to_string();
        text.lines()
            .map(|line| line.trim_start().to_owned())
            .collect()
    };
    run_in_background(move || load(&path, &overrides).map_err(lines))
}

/// The channel is closed without a result where `load` panics.
fn run_in_background(load: impl FnOnce() -> LoadResult + Send + 'static) -> Receiver<LoadResult> {
    let (sender, receiver) = bounded(1);
    let from_thread = sender.clone();
    let started = thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || {
            let _ = from_thread.send(load());
        });
    if let Err(error) = started {
        let _ = sender.send(Err(vec![format!(
            "cannot start the reload thread: {error}"
        )]));
    }
    receiver
}

/// Makes the main thread reload the configuration, and waits for the result.
pub fn request_reload(commands: &Sender<Command>) -> Result<(), ReloadError> {
    let (sender, result) = bounded(1);
    if commands.send(Command::Reload(Some(sender))).is_err() {
        return Err(ReloadError::Unfinished);
    }
    match result.recv_timeout(RESULT_TIMEOUT) {
        Ok(result) => result.map_err(ReloadError::Rejected),
        Err(_) => Err(ReloadError::Unfinished),
    }
}

/// `http.max_connections`, lowered to what the limit of file descriptors permits.
pub fn max_connections(settings: &http::ServerSettings) -> usize {
    let configured = settings.max_connections;
    match metrics::max_open_files() {
        Some(max_files) if configured + RESERVED_FILES > max_files => {
            let max = max_files
                .saturating_sub(RESERVED_FILES)
                .max(MIN_LOWERED_CONNECTIONS)
                .min(configured);
            if max < configured {
                warn!(
                    "http.max_connections lowered to {max}: the file-descriptor limit is {max_files}"
                );
            }
            max
        }
        _ => configured,
    }
}

/// Replaces the configuration of the running service.
pub struct ReloadController<'s> {
    /// The current settings of the publisher.
    pub broker: publisher::BrokerSettings,
    /// The address for which the server was started.
    pub listen: ListenAddress,
    /// Gets the new rules, tokens and limits.
    pub application: &'s Application,
    /// Gets the new number of connections.
    pub server: &'s Server,
    /// Counts the reloads.
    pub reload_metrics: metrics::ReloadMetrics,
    /// Whether the last reload failed.
    pub reload_failed: &'s AtomicBool,
}

impl ReloadController<'_> {
    /// Executes commands until one asks for shutdown, and returns its signal.
    pub fn run<S: Fn() -> String>(
        &mut self,
        cli: &Cli,
        inbox: &Receiver<Command>,
        notifier: &mut Notifier<S>,
    ) -> i32 {
        let ticks = notifier
            .interval()
            .map_or_else(never, crossbeam_channel::tick);
        // One reload at a time. A request that arrives during one may be about a newer file, so it gets its own.
        let mut requests: Vec<Option<Sender<ReloadResult>>> = Vec::new();
        let mut loading = never();
        loop {
            select! {
                recv(inbox) -> command => match command {
                    Ok(Command::Reload(result)) => {
                        requests.push(result);
                        if requests.len() > 1 {
                            continue;
                        }
                    }
                    Ok(Command::Stop(signal)) => return signal,
                    // Not reached: the signal thread keeps a sender.
                    Err(_) => return SIGTERM,
                },
                recv(loading) -> loaded => {
                    let result = self.apply(loaded.unwrap_or_else(|_| Err(vec![PANICKED.to_owned()])));
                    self.reload_metrics.reloaded(result.is_ok());
                    self.reload_failed.store(result.is_err(), Ordering::Relaxed);
                    notifier.reloaded();
                    if let Some(sender) = requests.remove(0) {
                        // The sender of the request may have given up.
                        let _ = sender.try_send(result);
                    }
                }
                recv(ticks) -> _ => {
                    notifier.tick();
                    continue;
                }
            }
            loading = if requests.is_empty() {
                never()
            } else {
                notifier.reloading();
                load_in_background(cli)
            };
        }
    }

    /// Replaces the configuration, or leaves everything as it is.
    fn apply(&mut self, loaded: LoadResult) -> ReloadResult {
        let result = loaded.map(|config| self.replace(config));
        if let Err(reasons) = &result {
            error!("configuration reload failed; still using the previous configuration");
            for reason in reasons {
                error!("{reason}");
            }
        }
        result
    }

    fn replace(&mut self, config: Config) {
        if config.http.listen != self.listen {
            warn!(current:% = self.server.address, changed_to:% = config.http.listen; "http.listen changed: restart the service to apply it");
        }
        let broker_changed = config.publisher != self.broker;
        if broker_changed {
            if let EventSink::Broker(publisher) = &self.application.sink {
                publisher.reconfigure(config.publisher.clone());
            }
            self.broker = config.publisher;
        }
        self.server.resize(max_connections(&config.http));
        let tls = config.http.tls_summary();
        self.application.replace(ActiveConfig {
            settings: config.http,
            mapping: config.mapping,
        });
        info!(broker_changed, tls:%; "configuration reloaded");
    }
}

const PANICKED: &str = "internal error: reload thread panicked (please report)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_loading_differs_from_a_result() {
        let failed = run_in_background(|| Err(vec!["unknown key".to_owned()]));
        assert_eq!(failed.recv().unwrap().unwrap_err(), ["unknown key"]);
        let panicked = run_in_background(|| panic!("intended by the test"));
        assert!(panicked.recv().is_err());
    }
}
