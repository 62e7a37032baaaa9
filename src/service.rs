//! Puts the rooms together: what each task of the command line does, and the way from start to stop.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use jiff::Timestamp;
use log::{info, warn};

use crate::alertmanager::{DecodeError, Notification};
use crate::cli::{Cli, HELP, Mode, UsageError};
use crate::config::{Config, ConfigError};
use crate::http::{ListenError, Routes, Runtime, Server};
use crate::logging;
use crate::mapping::explain;
use crate::metrics::Metrics;
use crate::pipeline::{self, EncodedNotification, EventSink, MappingReporter, PipelineError};
use crate::publisher::Publisher;
use crate::reload::{self, ReloadController};
use crate::{systemd, version};

/// What is under way when the connector is told to stop has so long to finish.
const GRACE: Duration = Duration::from_millis(9_500);

/// After which so much is left for closing the connection to the broker.
const CLOSING: Duration = Duration::from_millis(500);

/// Why the program ends with something else than 0.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command line.
    #[error("{0}; see --help")]
    Usage(#[from] UsageError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address.
    #[error(transparent)]
    ListenAddress(#[from] ListenError),
    /// The publisher's threads.
    #[error("can't start the publisher: {0}")]
    Publisher(io::Error),
    /// The thread that keeps systemd informed.
    #[error("can't start the thread for systemd: {0}")]
    Notifier(io::Error),
    /// The signals.
    #[error("can't watch for signals: {0}")]
    Signals(io::Error),
    /// `--dry-run`, `--explain`: the notification can't be read.
    #[error("can't read the notification {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `--explain`: it is no notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// `--dry-run`: it is no notification, or its events can't be made.
    #[error(transparent)]
    Prepare(#[from] PipelineError),
    /// `--dry-run`, `--explain`: some alerts can't be mapped; each has been named.
    #[error("{0} of {1} alerts can't be mapped")]
    Refused(usize, usize),
    /// Standard output.
    #[error("can't write to standard output: {0}")]
    Stdout(#[from] io::Error),
}

impl RunError {
    /// The program's exit status: 2 is for what a person has written wrong.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::ListenAddress(_)
            | Self::Publisher(_)
            | Self::Notifier(_)
            | Self::Signals(_)
            | Self::Read { .. }
            | Self::Decode(_)
            | Self::Prepare(_)
            | Self::Refused(..)
            | Self::Stdout(_) => 1,
        }
    }
}

/// Does what the arguments (without the program's name) say.
pub fn run(arguments: Vec<OsString>) -> Result<(), RunError> {
    let cli = Cli::parse(arguments, &reload::variable)?;
    match cli.mode {
        Mode::Help => return Ok(write!(io::stdout(), "{HELP}")?),
        Mode::Version => return Ok(writeln!(io::stdout(), "{}", version::LONG)?),
        _ => logging::start(cli.log_level, cli.log_format),
    }
    let config = reload::load(&cli.config, &cli.overrides)?;
    match &cli.mode {
        Mode::Check => Ok(writeln!(
            io::stdout(),
            "{} is valid\n{config}",
            cli.config.display()
        )?),
        Mode::Explain(file) => explain_file(&config, &cli.config, file),
        Mode::DryRun(file) => dry_run(&config, file),
        Mode::ServeToStdout | Mode::Serve | Mode::Help | Mode::Version => serve(&cli, config),
    }
}

/// A notification's body from a file, or from standard input (`-`).
fn read_body(path: &Path) -> Result<Vec<u8>, RunError> {
    let read = || {
        if path == Path::new("-") {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body)?;
            return Ok(body);
        }
        fs::read(path)
    };
    read().map_err(|source| RunError::Read {
        path: path.to_owned(),
        source,
    })
}

fn dry_run(config: &Config, path: &Path) -> Result<(), RunError> {
    let body = read_body(path)?;
    // Nobody waits for an answer.
    let deadline = Instant::now() + Duration::from_hours(24);
    let prepared = EncodedNotification::from_body(
        &config.mapping,
        &MappingReporter::unlimited(),
        &body,
        Timestamp::now(),
        deadline,
    )?;
    pipeline::write_lines(&mut io::stdout().lock(), &prepared.batch)?;
    all_mapped(prepared.batch.len(), prepared.refused.count)
}

fn explain_file(config: &Config, config_path: &Path, path: &Path) -> Result<(), RunError> {
    let body = read_body(path)?;
    let notification = Notification::decode(&body)?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{} is valid", config_path.display())?;
    let refused = explain::write(&mut out, &config.mapping, &notification, Timestamp::now())?;
    out.flush()?;
    all_mapped(notification.alerts.len() - refused, refused)
}

fn all_mapped(mapped: usize, refused: usize) -> Result<(), RunError> {
    if refused == 0 {
        Ok(())
    } else {
        Err(RunError::Refused(refused, mapped + refused))
    }
}

fn serve(cli: &Cli, config: Config) -> Result<(), RunError> {
    let (command, commands) = unbounded();
    reload::watch_signals(command.clone()).map_err(RunError::Signals)?;
    let metrics = Metrics::new();
    let (broker_metrics, reloads) = (metrics.broker.clone(), metrics.reloads.clone());
    let sink = match cli.mode {
        Mode::ServeToStdout => EventSink::Stream(Mutex::new(Box::new(io::stdout()))),
        _ => EventSink::Broker(
            Publisher::start(config.publisher.clone(), broker_metrics.clone())
                .map_err(RunError::Publisher)?,
        ),
    };
    let (listen, broker, most) = (
        config.http.listen.clone(),
        config.publisher,
        reload::connections(&config.http),
    );
    let runtime = Runtime {
        settings: config.http,
        mapping: config.mapping,
        sink: Arc::new(sink),
    };
    let routes = Arc::new(Routes::new(
        runtime,
        metrics,
        Box::new(move || reload::ask_to_reload(&command)),
    ));
    let handler = Arc::clone(&routes);
    let server = Server::start(&listen, most, handler)?;
    info!(version:% = version::VERSION, address:% = server.address(); "listening");

    let stale = Arc::new(AtomicBool::new(false));
    let notifier = systemd::ready(systemd::Service {
        address: server.reachable_at(),
        status: status(server.address(), &routes, &stale),
        accepted: server.accepted(),
        is_saturated: server.is_saturated(),
    })
    .map_err(RunError::Notifier)?;
    let mut configuration = ReloadController {
        broker,
        listen,
        routes: &routes,
        server: &server,
        metrics: broker_metrics,
        reloads,
        stale: &stale,
    };
    let signal = configuration.run(cli, &commands, &notifier);
    info!(signal; "stopping: what is under way is finished first");

    notifier.stopping();
    let deadline = Instant::now() + GRACE + CLOSING;
    routes.stop();
    if !server.stop(GRACE) {
        warn!("some requests had no answer yet");
    }
    if let EventSink::Broker(publisher) = &*routes.runtime().sink {
        publisher.close(
            deadline
                .saturating_duration_since(Instant::now())
                .max(CLOSING),
        );
    }
    info!("stopped");
    Ok(())
}

/// What systemd is told.
fn status(
    address: SocketAddr,
    routes: &Arc<Routes>,
    stale: &Arc<AtomicBool>,
) -> impl Fn() -> String + Send + 'static {
    let (routes, stale) = (Arc::clone(routes), Arc::clone(stale));
    move || {
        let note = if stale.load(Ordering::Relaxed) {
            "; the changed configuration is faulty and not used"
        } else {
            ""
        };
        format!(
            "listening on {address}; {}{note}",
            routes.runtime().sink.headline()
        )
    }
}
