//! Loads the configuration, and replaces it at run time: on SIGHUP or `POST /-/reload`, until a signal asks for shutdown.
//!
//! A configuration with errors is rejected as a whole. Loading happens in a background thread, so that a slow file system
//! does not delay a shutdown.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::Cli;
use crate::config::{Config, ConfigError, Environment};
use crate::http::{ActiveConfig, HttpError, ListenAddress, Server};
use crate::liveness::Heartbeats;
use crate::metrics;
use crate::pipeline::EventSink;
use crate::publisher;
use crate::systemd::{self, Notifier};

/// How long `POST /-/reload` waits for the result: below the 10 s after which senders give up.
const RESULT_TIMEOUT: Duration = Duration::from_secs(9);

/// File descriptors that connections must leave for the broker, the log and the configuration.
const RESERVED_FILES: usize = 64;

/// The lower limit of `http.max_connections` where file descriptors are scarce.
const MIN_LOWERED_CONNECTIONS: usize = 16;

/// Reads and checks the configuration, and logs its warnings.
pub fn load(cli: &Cli) -> Result<Config, ConfigError> {
    let config = Config::load(&cli.config, &cli.overrides, &Environment::of_process())?;
    for warning in &config.warnings {
        warn!("configuration: {warning}");
    }
    Ok(config)
}

/// The result of a reload, with a line for each error.
type ReloadResult = Result<(), Vec<String>>;

/// The result of reading a configuration, with a line for each error.
type LoadResult = Result<Config, Vec<String>>;

/// A request to reload the configuration, and to send the result where one is awaited.
pub type ReloadRequest = Option<Sender<ReloadResult>>;

/// Starts a thread that turns signals into requests: to stop, with the signal, or to reload.
pub fn watch_signals(stops: Sender<i32>, reloads: Sender<ReloadRequest>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let forward = move || {
        for signal in signals.forever() {
            // Nothing receives them once the service stops.
            let _ = match signal {
                SIGHUP => reloads.send(None).is_ok(),
                _ => stops.send(signal).is_ok(),
            };
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(forward)
        .map(drop)
}

fn load_in_background(cli: &Cli) -> Receiver<LoadResult> {
    let cli = cli.clone();
    let lines = |error: ConfigError| {
        let text = error.to_string();
        text.lines()
            .map(|line| line.trim_start().to_owned())
            .collect()
    };
    run_in_background(move || load(&cli).map_err(lines))
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
pub fn request_reload(reloads: &Sender<ReloadRequest>) -> Result<(), HttpError> {
    let (sender, result) = bounded(1);
    // A request that nothing receives ends as one whose result does not come in time.
    let _ = reloads.send(Some(sender));
    match result.recv_timeout(RESULT_TIMEOUT) {
        Ok(result) => result.map_err(HttpError::ReloadRejected),
        Err(_) => Err(HttpError::ReloadUnfinished),
    }
}

/// `http.max_connections`, lowered to what the limit of file descriptors permits.
pub fn max_connections(configured: usize) -> usize {
    let Some(max_files) = metrics::max_open_files::<usize>() else {
        return configured;
    };
    let max = max_files
        .saturating_sub(RESERVED_FILES)
        .max(MIN_LOWERED_CONNECTIONS)
        .min(configured);
    if max < configured {
        warn!("http.max_connections lowered to {max}: the file-descriptor limit is {max_files}");
    }
    max
}

/// Replaces the configuration of the running service.
pub struct ReloadController<'s> {
    /// The current settings of the publisher.
    pub broker: publisher::BrokerSettings,
    /// The address for which the server was started.
    pub listen: ListenAddress,
    /// Gets the new number of connections, and its application the new rules, tokens and limits.
    pub server: &'s Server,
}

impl ReloadController<'_> {
    /// Reloads on request until a signal asks for shutdown, and returns it. Notifies systemd meanwhile.
    pub fn run(
        &mut self,
        cli: &Cli,
        stops: &Receiver<i32>,
        reloads: &Receiver<ReloadRequest>,
        heartbeats: Heartbeats,
    ) -> i32 {
        let mut notifier = Notifier::start(&self.status(), heartbeats);
        let ticks = notifier.interval().map_or_else(never, tick);
        // One reload at a time. A request that arrives during one may be about a newer file, so it waits for its own.
        let (mut loading, mut awaiting) = (None, None);
        let later = never();
        loop {
            select! {
                // An error is not possible: the signal thread keeps a sender.
                recv(stops) -> signal => return signal.unwrap_or(SIGTERM),
                recv(if loading.is_some() { &later } else { reloads }) -> request => {
                    systemd::reloading();
                    awaiting = request.unwrap_or_default();
                    loading = Some(load_in_background(cli));
                }
                recv(loading.as_ref().unwrap_or(&never())) -> loaded => {
                    loading = None;
                    let result = self.apply(loaded.unwrap_or_else(|_| Err(vec![PANICKED.to_owned()])));
                    systemd::reloaded();
                    if let Some(sender) = awaiting.take() {
                        // The sender of the request may have given up.
                        let _ = sender.try_send(result);
                    }
                }
                recv(ticks) -> _ => notifier.tick(&self.status()),
            }
        }
    }

    /// The status line for systemd.
    fn status(&self) -> String {
        let application = &self.server.application;
        let note = if application.metrics.reloads.successful.get() == 0 {
            "; configuration reload failed; still using the previous configuration"
        } else {
            ""
        };
        let sink = application.sink.headline();
        format!("listening on {}; {sink}{note}", self.server.address)
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
        let metrics = &self.server.application.metrics;
        metrics.reloads.reloaded(result.is_ok());
        result
    }

    fn replace(&mut self, config: Config) {
        if config.http.listen != self.listen {
            warn!(current:% = self.server.address, changed_to:% = config.http.listen; "http.listen changed: restart the service to apply it");
        }
        let broker_changed = config.publisher != self.broker;
        if broker_changed {
            if let EventSink::Broker(publisher) = &self.server.application.sink {
                publisher.reconfigure(config.publisher.clone());
            }
            self.broker = config.publisher;
        }
        self.server
            .resize(max_connections(config.http.max_connections));
        let tls = config.http.tls_summary();
        self.server.application.replace(ActiveConfig {
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
