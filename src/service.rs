//! The tasks of the command line, and the service from start to shutdown. Connects the modules, and decides nothing else.

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use jiff::Timestamp;
use log::{LevelFilter, info, warn};

use crate::alertmanager::DecodeError;
use crate::allocator;
use crate::cli::{Cli, HELP, Mode, UsageError};
use crate::config::{Config, ConfigError, Environment};
use crate::http::{ActiveConfig, Application, ListenError, Server};
use crate::input::{Input, InputError};
use crate::liveness::Heartbeats;
use crate::logging;
use crate::mapping::explain;
use crate::mapping::summary::Summary;
use crate::memory::Budget;
use crate::metrics::Metrics;
use crate::pipeline::{self, EncodedNotification, EventSink, MappingReporter, PipelineError};
use crate::publisher::Publisher;
use crate::reload::{self, ReloadController};
use crate::systemd;
use crate::version;

/// The memory for all notifications together. What is not charged (threads, buffers of connections, the program itself) stays
/// below the same size, so that the process stays below 256 MiB.
const MEMORY_LIMIT: usize = 128 << 20;

/// How long a shutdown waits for in-flight requests. With [`CLOSE_TIMEOUT`] it is 10 s, after which `docker stop` kills.
const GRACE: Duration = Duration::from_millis(9_500);

/// How long closing the connection to RabbitMQ may take after that.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the program ends with a status other than 0.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command line is invalid.
    #[error("{0}; see --help")]
    Usage(#[from] UsageError),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The publisher's threads cannot start.
    #[error("cannot start the publisher: {0}")]
    Publisher(io::Error),
    /// The signal handlers cannot be installed.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// The notification for `--dry-run` or `--explain` cannot be read.
    #[error("cannot read the notification {path}: {1}", path = .0.display())]
    Read(PathBuf, io::Error),
    /// The input of `--dry-run` or `--explain` is neither a notification nor a list of alerts.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A notification of it is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The events of `--dry-run` cannot be encoded.
    #[error(transparent)]
    Encode(#[from] PipelineError),
    /// `--dry-run` or `--explain` rejected alerts, and has named each of them.
    #[error("rejected {0} of {1} alerts")]
    Rejected(usize, usize),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Stdout(#[from] io::Error),
}

impl RunError {
    /// The program's exit status: 2 for a wrong command line or configuration, 1 for any other failure.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            _ => 1,
        }
    }
}

/// Runs the task that the arguments of the process select.
pub fn run() -> Result<(), RunError> {
    let arguments = std::env::args_os().skip(1).collect();
    let cli = Cli::parse(arguments, &Environment::of_process())?;
    match cli.mode {
        Mode::Help => return Ok(write!(io::stdout(), "{HELP}")?),
        Mode::Version => return Ok(writeln!(io::stdout(), "{}", version::long())?),
        _ => logging::start(cli.log_level, cli.log_format),
    }
    if matches!(cli.mode, Mode::Serve | Mode::ServeToStdout)
        && let Err(error) = allocator::configure()
    {
        warn!("cannot configure the memory allocator: {error}; more memory may be used");
    }
    let config = reload::load(&cli)?;
    match &cli.mode {
        Mode::Check => check(&config, &cli.config),
        Mode::Explain(file) => explain_file(&config, &cli.config, file),
        Mode::DryRun(file) => dry_run(&config, file, cli.log_level),
        Mode::ServeToStdout | Mode::Serve | Mode::Help | Mode::Version => serve(&cli, config),
    }
}

fn check(config: &Config, path: &Path) -> Result<(), RunError> {
    // Here and not for each mode: --explain and --dry-run may run on a host where the name is unknown.
    config.http.listen.resolve()?;
    writeln!(io::stdout(), "{} is valid\n{config}", path.display())?;
    Ok(())
}

/// Reads what is mapped from a file, or from standard input (`-`).
fn read_input(path: &Path) -> Result<Input, RunError> {
    let json = if path == Path::new("-") {
        let mut json = Vec::new();
        io::stdin().read_to_end(&mut json).map(|_| json)
    } else {
        fs::read(path)
    };
    let json = json.map_err(|error| RunError::Read(path.to_owned(), error))?;
    Ok(Input::read(json)?)
}

fn dry_run(config: &Config, path: &Path, log_level: LevelFilter) -> Result<(), RunError> {
    let mut input = read_input(path)?;
    // No sender waits for a response.
    let deadline = Instant::now() + Duration::from_hours(24);
    let now = Timestamp::now();
    let (mut mapped, mut rejected) = (0, 0);
    for body in &mut input.bodies {
        let encoded = EncodedNotification::from_body(
            &config.mapping,
            &MappingReporter::unlimited(),
            &mut *body.json,
            Budget::new(usize::MAX).charge(),
            now,
            deadline,
        )?;
        mapped += encoded.events.batch.len() + encoded.events.merged;
        rejected += encoded.rejected.count;
        if !body.is_suppressed {
            pipeline::write_lines(&mut io::stdout().lock(), &encoded.events.batch)?;
        }
    }
    // It maps all alerts once more.
    if log_level >= LevelFilter::Info {
        let summary = Summary::new(&config.mapping, &input, now)?;
        write!(io::stderr(), "{summary}")?;
    }
    all_mapped(rejected, mapped + rejected)
}

fn explain_file(config: &Config, config_path: &Path, path: &Path) -> Result<(), RunError> {
    let input = read_input(path)?;
    let summary = Summary::new(&config.mapping, &input, Timestamp::now())?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{} is valid", config_path.display())?;
    explain::write(&mut out, &config.mapping, &summary)?;
    out.flush()?;
    all_mapped(summary.rejected(), summary.alerts)
}

fn all_mapped(rejected: usize, alerts: usize) -> Result<(), RunError> {
    match rejected {
        0 => Ok(()),
        _ => Err(RunError::Rejected(rejected, alerts)),
    }
}

fn serve(cli: &Cli, config: Config) -> Result<(), RunError> {
    let ((stop, stops), (reload, reloads)) = (unbounded(), unbounded());
    reload::watch_signals(stop, reload.clone()).map_err(RunError::Signals)?;
    let metrics = Metrics::default();
    let mut heartbeats = Heartbeats::default();
    let sink = if cli.mode == Mode::ServeToStdout {
        EventSink::stream(io::stdout())
    } else {
        let (broker, counts) = (config.publisher.clone(), metrics.broker.clone());
        let started = Publisher::start(broker, counts, heartbeats.add("publisher"));
        EventSink::Broker(started.map_err(RunError::Publisher)?)
    };
    let (listen, broker) = (config.http.listen.clone(), config.publisher);
    let tls = config.http.tls_summary();
    let max_connections = reload::max_connections(config.http.max_connections);
    let active = ActiveConfig {
        settings: config.http,
        mapping: config.mapping,
    };
    let budget = Budget::new(MEMORY_LIMIT);
    let reload = Box::new(move || reload::request_reload(&reload));
    let application = Application::new(active, sink, metrics, budget, reload);
    let heartbeat = heartbeats.add("accept");
    let server = Server::start(&listen, max_connections, application, heartbeat)?;
    info!(version:% = version::VERSION, address:% = server.address, tls:%; "listening");

    let mut controller = ReloadController {
        broker,
        listen,
        server: &server,
    };
    let signal = controller.run(cli, &stops, &reloads, heartbeats);
    // A request that waits for a reload gets its response now.
    drop(reloads);
    let signal = signal_hook::low_level::signal_name(signal).unwrap_or("unknown");
    info!(signal; "shutting down: finishing in-flight requests (10 s at most)");

    systemd::stopping();
    let deadline = Instant::now() + GRACE + CLOSE_TIMEOUT;
    let unanswered = server.stop(GRACE);
    if unanswered > 0 {
        warn!("shutdown timeout: {unanswered} in-flight requests got no response");
    }
    if let EventSink::Broker(publisher) = &server.application.sink {
        let left = deadline.saturating_duration_since(Instant::now());
        publisher.stop(left.max(CLOSE_TIMEOUT));
    }
    info!("stopped");
    Ok(())
}
