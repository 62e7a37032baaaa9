//! Puts the rooms together: what each task of the command line does, and the way from start to stop.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::bridge::{self, Outlet};
use crate::cli::{Cli, HELP, Task, UsageError};
use crate::config::{Config, ConfigError};
use crate::http::{ListenError, Routes, Server};
use crate::logging;
use crate::notification::{DecodeError, Notification};
use crate::publisher::Publisher;
use crate::version;

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
    /// The signals.
    #[error("can't watch for signals: {0}")]
    Signals(io::Error),
    /// `--dry-run`: the notification can't be read.
    #[error("can't read the notification {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `--dry-run`: it is no notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// `--dry-run`: some alerts can't be mapped; each has been named.
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
    let cli = Cli::parse(arguments)?;
    match cli.task {
        Task::Help => return Ok(write!(io::stdout(), "{HELP}")?),
        Task::Version => {
            return Ok(writeln!(io::stdout(), "{}", version::LONG)?);
        }
        _ => logging::start(cli.log_level, cli.log_format),
    }
    let config = Config::load(&cli.config, &cli.overrides, &|name| std::env::var_os(name).map(OsString::into_string))?;
    for warning in &config.warnings {
        warn!("configuration: {warning}");
    }
    match cli.task {
        Task::Check => Ok(writeln!(io::stdout(), "{} is valid\n{config}", cli.config.display())?),
        Task::DryRun(file) => dry_run(&config, &file),
        Task::ServeToStdout => serve(config, Outlet::Stream(Mutex::new(Box::new(io::stdout())))),
        Task::Serve | Task::Help | Task::Version => {
            let publisher = Publisher::start(config.publisher.clone()).map_err(Failure::Publisher)?;
            serve(config, Outlet::Broker(publisher))
        }
    }
}

/// How many file descriptors the process may have (its soft limit), where that is known.
fn descriptor_limit() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn dry_run(config: &Config, path: &Path) -> Result<(), Failure> {
    let read = || {
        if path == Path::new("-") {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body)?;
            return Ok(body);
        }
        fs::read(path)
    };
    let body = read().map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    let notification = Notification::decode(&body)?;
    let mapped = bridge::map(&config.mapping, &notification, &jiff::Timestamp::now().to_string());
    let mut out = io::stdout().lock();
    for event in &mapped.events {
        serde_json::to_writer(&mut out, event).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    match mapped.refused.len() {
        0 => Ok(()),
        refused => Err(Failure::Refused(refused, notification.alerts.len())),
    }
}

fn serve(config: Config, outlet: Outlet) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::Signals)?;
    let outlet = Arc::new(outlet);
    let (listen, mut most_connections) = (config.http.listen.clone(), config.http.max_connections);
    if let Some(limit) = descriptor_limit()
        && most_connections + RESERVED_DESCRIPTORS > limit
    {
        most_connections = limit.saturating_sub(RESERVED_DESCRIPTORS).max(FEWEST_CONNECTIONS);
        warn!(limit, connections = most_connections; "file descriptors are limited (ulimit -n): fewer connections than http.max_connections");
    }
    let routes = Arc::new(Routes::new(config.http, config.mapping, Arc::clone(&outlet)));
    let answering = Arc::clone(&routes);
    let server = Server::start(&listen, most_connections, Arc::new(move |request| answering.answer(request)))?;
    info!(version:% = version::VERSION, address:% = server.address(); "listening");
    if let Some(signal) = signals.forever().next() {
        info!(signal; "stopping: what is under way is finished first");
    }
    let deadline = Instant::now() + GRACE + CLOSING;
    routes.stop();
    if !server.stop(GRACE) {
        warn!("some requests had no answer yet");
    }
    if let Outlet::Broker(publisher) = &*outlet {
        publisher.close(deadline.saturating_duration_since(Instant::now()).max(CLOSING));
    }
    info!("stopped");
    Ok(())
}
