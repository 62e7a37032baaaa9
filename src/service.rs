//! Puts the rooms together: what each task of the command line does, and the way from start to stop, with reloads between.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::bridge::{self, Outlet};
use crate::cli::{Cli, HELP, Task, UsageError};
use crate::config::{Config, ConfigError, Overrides};
use crate::http::{self, Listen, ListenError, Reloading, Routes, Server, Setup};
use crate::logging;
use crate::mapping::explain;
use crate::metrics::{self, Metrics};
use crate::notification::{DecodeError, Notification};
use crate::publisher::{self, Publisher};
use crate::{systemd, version};

/// What is under way when the connector is told to stop has so long to finish.
const GRACE: Duration = Duration::from_millis(9_500);

/// After which so much is left for closing the connection to the broker.
const CLOSING: Duration = Duration::from_millis(500);

/// File descriptors that connections may not take: for the broker, the log, the configuration.
const RESERVED_DESCRIPTORS: usize = 64;

/// However few descriptors there are.
const FEWEST_CONNECTIONS: usize = 16;

/// Why the program ends with something else than 0.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line.
    #[error("{0}; see --help")]
    Usage(#[from] UsageError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The publisher's threads.
    #[error("can't start the publisher: {0}")]
    Publisher(io::Error),
    /// The thread that keeps systemd informed.
    #[error("can't start the thread for systemd: {0}")]
    Notifier(io::Error),
    /// The signals.
    #[error("can't watch for signals: {0}")]
    Signals(io::Error),
    /// `--dry-run`, `--against`: the notification can't be read.
    #[error("can't read the notification {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `--dry-run`, `--against`: it is no notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// `--dry-run`, `--against`: some alerts can't be mapped; each has been named.
    #[error("{0} of {1} alerts can't be mapped")]
    Refused(usize, usize),
    /// Standard output.
    #[error("can't write to standard output: {0}")]
    Stdout(#[from] io::Error),
}

impl Failure {
    /// The program's exit status: 2 is for what a person has written wrong.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Listen(_)
            | Self::Publisher(_)
            | Self::Notifier(_)
            | Self::Signals(_)
            | Self::Read { .. }
            | Self::Decode(_)
            | Self::Refused(..)
            | Self::Stdout(_) => 1,
        }
    }
}

/// Does what the arguments (without the program's name) say.
pub fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let cli = Cli::parse(arguments, &variable)?;
    match cli.task {
        Task::Help => return Ok(write!(io::stdout(), "{HELP}")?),
        Task::Version => return Ok(writeln!(io::stdout(), "{}", version::LONG)?),
        _ => logging::start(cli.log_level, cli.log_format),
    }
    let config = load(&cli.config, &cli.overrides)?;
    match &cli.task {
        Task::Check => Ok(writeln!(io::stdout(), "{} is valid\n{config}", cli.config.display())?),
        Task::CheckAgainst(file) => check_against(&config, &cli.config, file),
        Task::DryRun(file) => dry_run(&config, file),
        Task::ServeToStdout | Task::Serve | Task::Help | Task::Version => serve(&cli, config),
    }
}

fn variable(name: &str) -> Option<Result<String, OsString>> {
    std::env::var_os(name).map(OsString::into_string)
}

fn load(path: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
    let config = Config::load(path, overrides, &variable)?;
    for warning in &config.warnings {
        warn!("configuration: {warning}");
    }
    Ok(config)
}

/// How many file descriptors the process may have (its soft limit), where that is known.
fn descriptor_limit() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The notification in a file, or on standard input (`-`).
fn read_notification(path: &Path) -> Result<Notification, Failure> {
    let read = || {
        if path == Path::new("-") {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body)?;
            return Ok(body);
        }
        fs::read(path)
    };
    let body = read().map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    Ok(Notification::decode(&body)?)
}

fn dry_run(config: &Config, path: &Path) -> Result<(), Failure> {
    let notification = read_notification(path)?;
    let mapped = bridge::map(&config.mapping, &notification, &jiff::Timestamp::now().to_string());
    let mut out = io::stdout().lock();
    for event in &mapped.events {
        serde_json::to_writer(&mut out, event).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    all_mapped(&notification, mapped.refused.len())
}

fn check_against(config: &Config, config_path: &Path, path: &Path) -> Result<(), Failure> {
    let notification = read_notification(path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{} is valid", config_path.display())?;
    let received_at = jiff::Timestamp::now().to_string();
    let refused = explain::write(&mut out, &config.mapping, &notification, &received_at)?;
    out.flush()?;
    all_mapped(&notification, refused)
}

fn all_mapped(notification: &Notification, refused: usize) -> Result<(), Failure> {
    match refused {
        0 => Ok(()),
        refused => Err(Failure::Refused(refused, notification.alerts.len())),
    }
}

/// What the main thread is asked for.
enum Wish {
    Stop(i32),
    /// Who asked over HTTP wants to know what came of it.
    Reload(Option<Sender<Result<(), Vec<String>>>>),
}

fn serve(cli: &Cli, config: Config) -> Result<(), Failure> {
    let (wish, wishes) = unbounded();
    watch_signals(wish.clone())?;
    let metrics = Metrics::new();
    let (broker_metrics, reloads) = (metrics.broker.clone(), metrics.reloads.clone());
    let outlet = match cli.task {
        Task::ServeToStdout => Outlet::Stream(Mutex::new(Box::new(io::stdout()))),
        _ => Outlet::Broker(
            Publisher::start(config.publisher.clone(), broker_metrics.clone()).map_err(Failure::Publisher)?,
        ),
    };
    let (listen, broker, most) = (config.http.listen.clone(), config.publisher, connections(&config.http));
    let setup = Setup { settings: config.http, mapping: config.mapping, outlet: Arc::new(outlet) };
    let routes = Arc::new(Routes::new(setup, metrics, Box::new(move || ask_to_reload(&wish))));
    let handler = Arc::clone(&routes);
    let server = Server::start(&listen, most, handler)?;
    info!(version:% = version::VERSION, address:% = server.address(); "listening");

    let stale = Arc::new(AtomicBool::new(false));
    let notifier = systemd::ready(systemd::Service {
        address: server.reachable_at(),
        status: status(server.address(), &routes, &stale),
        accepted: server.accepted(),
        is_full_of_work: server.is_full_of_work(),
    })
    .map_err(Failure::Notifier)?;
    let mut reloader = Reloader { broker, listen, routes: &routes, server: &server, metrics: broker_metrics };
    let mut asked = Vec::new();
    let mut loading = never();
    loop {
        select! {
            recv(wishes) -> wish => match wish {
                Ok(Wish::Reload(reply)) => {
                    asked.push(reply);
                    // One at a time; whoever asks while the file is being read may have changed it since: it is read again.
                    if asked.len() == 1 {
                        notifier.reloading();
                        loading = load_aside(cli);
                    }
                }
                Ok(Wish::Stop(signal)) => {
                    info!(signal; "stopping: what is under way is finished first");
                    break;
                }
                Err(_) => break,
            },
            recv(loading) -> loaded => {
                let outcome = reloader.replace_by(loaded.unwrap_or_else(|_| Err(vec!["no thread to read it in".to_owned()])));
                reloads.reloaded(outcome.is_ok());
                stale.store(outcome.is_err(), Ordering::Relaxed);
                notifier.reloaded();
                if let Some(reply) = asked.remove(0) {
                    // Who asked may be gone.
                    let _ = reply.try_send(outcome);
                }
                loading = if asked.is_empty() { never() } else { load_aside(cli) };
            }
        }
    }

    notifier.stopping();
    let deadline = Instant::now() + GRACE + CLOSING;
    routes.stop();
    if !server.stop(GRACE) {
        warn!("some requests had no answer yet");
    }
    if let Outlet::Broker(publisher) = &*routes.setup().outlet {
        publisher.close(deadline.saturating_duration_since(Instant::now()).max(CLOSING));
    }
    info!("stopped");
    Ok(())
}

/// Passes signals on to the main thread.
fn watch_signals(wish: Sender<Wish>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Failure::Signals)?;
    let pass_on = move || {
        for signal in signals.forever() {
            let asked = if signal == SIGHUP { Wish::Reload(None) } else { Wish::Stop(signal) };
            if wish.send(asked).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(pass_on).map(drop).map_err(Failure::Signals)
}

/// Reads the configuration in a thread of its own: where that takes long, the main thread still hears of signals.
fn load_aside(cli: &Cli) -> Receiver<Result<Config, Vec<String>>> {
    let (done, loaded) = bounded(1);
    let (path, overrides) = (cli.config.clone(), cli.overrides.clone());
    let read = move || {
        let lines = |error: ConfigError| error.to_string().lines().map(|line| line.trim_start().to_owned()).collect();
        let _ = done.send(load(&path, &overrides).map_err(lines));
    };
    // Where there is no thread, what it would have sent by is gone, which is seen.
    let _ = thread::Builder::new().name("reload".to_owned()).spawn(read);
    loaded
}

/// Has the main thread reload, and waits for what comes of it.
fn ask_to_reload(wish: &Sender<Wish>) -> Result<(), Reloading> {
    let (reply, outcome) = bounded(1);
    if wish.send(Wish::Reload(Some(reply))).is_err() {
        return Err(Reloading::Unfinished);
    }
    match outcome.recv_timeout(GRACE) {
        Ok(outcome) => outcome.map_err(Reloading::Refused),
        Err(_) => Err(Reloading::Unfinished),
    }
}

/// What systemd is told.
fn status(address: SocketAddr, routes: &Arc<Routes>, stale: &Arc<AtomicBool>) -> impl Fn() -> String + Send + 'static {
    let (routes, stale) = (Arc::clone(routes), Arc::clone(stale));
    move || {
        let note =
            if stale.load(Ordering::Relaxed) { "; the changed configuration is faulty and not used" } else { "" };
        format!("listening on {address}; {}{note}", routes.setup().outlet.headline())
    }
}

/// How many connections at once are possible.
fn connections(settings: &http::Settings) -> usize {
    let wanted = settings.max_connections;
    match descriptor_limit() {
        Some(limit) if wanted + RESERVED_DESCRIPTORS > limit => {
            let possible = limit.saturating_sub(RESERVED_DESCRIPTORS).max(FEWEST_CONNECTIONS);
            warn!(limit, connections = possible; "file descriptors are limited (ulimit -n): fewer connections than http.max_connections");
            possible
        }
        _ => wanted,
    }
}

/// Puts a changed configuration in place of the one in use.
struct Reloader<'s> {
    /// What the publisher in use was started with.
    broker: publisher::Settings,
    /// Where the server was told to listen.
    listen: Listen,
    routes: &'s Routes,
    server: &'s Server,
    metrics: metrics::Broker,
}

impl Reloader<'_> {
    /// Puts what has been read in place of what is in use. A faulty configuration is refused as a whole, and the one in use stays; then
    /// the reasons come back.
    fn replace_by(&mut self, loaded: Result<Config, Vec<String>>) -> Result<(), Vec<String>> {
        let replaced = loaded.and_then(|config| match self.outlet(&config.publisher) {
            Ok(outlet) => {
                self.replace(config, outlet);
                Ok(())
            }
            Err(error) => Err(vec![Failure::Publisher(error).to_string()]),
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
    fn outlet(&self, broker: &publisher::Settings) -> io::Result<Arc<Outlet>> {
        let current = Arc::clone(&self.routes.setup().outlet);
        match &*current {
            Outlet::Broker(_) if *broker != self.broker => Publisher::start(broker.clone(), self.metrics.clone())
                .map(|publisher| Arc::new(Outlet::Broker(publisher))),
            Outlet::Broker(_) | Outlet::Stream(_) => Ok(current),
        }
    }

    fn replace(&mut self, config: Config, outlet: Arc<Outlet>) {
        if config.http.listen != self.listen {
            warn!(now:% = self.server.address(), changed_to:% = config.http.listen; "http.listen has changed: it takes effect at the next restart");
        }
        let broker_changed = config.publisher != self.broker;
        self.server.resize(connections(&config.http));
        self.broker = config.publisher;
        self.routes.replace(Setup { settings: config.http, mapping: config.mapping, outlet });
        info!(broker_changed; "configuration reloaded");
    }
}
