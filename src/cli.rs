//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use log::LevelFilter;
use pico_args::Arguments;

use crate::config::{self, DEFAULT_PATH, Environment, Overrides};
use crate::logging::Format;
use crate::suggest::did_you_mean;

const LOG_LEVEL: &str = "PROMETHEUS_LOG_LEVEL";
const LOG_FORMAT: &str = "PROMETHEUS_LOG_FORMAT";

/// Every variable of the environment that is read: for options, and for the configuration.
pub fn variables() -> impl Iterator<Item = String> {
    config::variables().chain([LOG_LEVEL, LOG_FORMAT].map(str::to_owned))
}

/// What `--help` prints.
pub const HELP: &str = "\
Turns Prometheus Alertmanager notifications into Canopsis events on RabbitMQ.

Usage: canopsis-connector-prometheus [OPTIONS]

  -c, --config FILE        the configuration
                           [default: /etc/canopsis-connectors/prometheus/config.yml]
      --host ADDR          listen on this address instead of http.listen's
  -p, --port N             listen on this port instead of http.listen's; 0 takes a free one
      --check              check the configuration, print a summary, and end
      --against FILE|-     with --check: also read a notification, and explain field by field how
                           its alerts would be mapped; 1 if one can't be
      --dry-run FILE|-     read a notification (as Alertmanager posts it), print each event as
                           one JSON line, and end; 1 if an alert can't be mapped
      --stdout             serve, but print the events instead of publishing them
      --log-level LEVEL    error, warn, info, debug or trace [default: info]
      --log-format FORMAT  text, json or auto (for the journal where it listens, else text)
                           [default: auto]
  -V, --version            print the version and end
  -h, --help               print this and end

Environment: each key of the sections amqp and http has a variable, which takes precedence
over the file: CPS_AMQP_URL for amqp.url, PROMETHEUS_LISTEN for http.listen. Most used:
  CPS_AMQP_URL                  the broker; several URLs are separated by white space
  CPS_AMQP_URL_FILE             a file that holds it
  PROMETHEUS_BEARER_TOKEN       the token that senders must show
  PROMETHEUS_BEARER_TOKEN_FILE  a file that holds it
  PROMETHEUS_LOG_LEVEL, PROMETHEUS_LOG_FORMAT
                                as --log-level and --log-format, which take precedence

Exit status: 0 fine; 1 failed at run time; 2 wrong command line or configuration.
";

const FLAGS: &[&str] = &[
    "--config",
    "--host",
    "--port",
    "--check",
    "--against",
    "--dry-run",
    "--stdout",
    "--log-level",
    "--log-format",
    "--version",
    "--help",
];

const SHORT_FLAGS: &[&str] = &["-c", "-p", "-V", "-h"];

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Serve, and publish to the broker.
    Serve,
    /// Serve, and print the events.
    ServeToStdout,
    /// `--check`
    Check,
    /// `--check --against`; `-` is standard input.
    CheckAgainst(PathBuf),
    /// `--dry-run`; `-` is standard input.
    DryRun(PathBuf),
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// A command line that makes sense.
#[derive(Debug)]
pub struct Cli {
    /// What is to be done.
    pub task: Task,
    /// The configuration's file.
    pub config: PathBuf,
    /// What is said over the file.
    pub overrides: Overrides,
    /// How much is logged.
    pub log_level: LevelFilter,
    /// How it is logged.
    pub log_format: Format,
}

/// Why a command line makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A value is missing or wrong.
    #[error("{0}")]
    Value(#[from] pico_args::Error),
    /// Something that is no option.
    #[error("unknown option {0}{1}")]
    Unknown(String, String),
    /// Something that does not begin with `-`.
    #[error("there is an argument that belongs to no option")]
    NoOption,
    /// The same option twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// A variable that stands for an option.
    #[error("{0}: {1}")]
    Variable(&'static str, &'static str),
    /// `--check=1`
    #[error("{0} takes no value")]
    NoValue(String),
    /// Two tasks at once.
    #[error("--check, --dry-run and --stdout exclude each other")]
    Conflict,
    /// `--against` without `--check`.
    #[error("--against belongs to --check: write --check --against FILE")]
    AgainstAlone,
}

impl Cli {
    /// Reads the arguments (without the program's name), and the two variables that stand for options.
    pub fn parse(
        arguments: Vec<OsString>,
        environment: Environment<'_>,
    ) -> Result<Self, UsageError> {
        let mut arguments = Arguments::from_vec(arguments);
        let help = arguments.contains(["-h", "--help"]);
        let version = arguments.contains(["-V", "--version"]);
        let path = |text: &str| Ok::<_, std::convert::Infallible>(PathBuf::from(text));
        let config = arguments.opt_value_from_fn(["-c", "--config"], path)?;
        let overrides = Overrides {
            host: arguments.opt_value_from_fn("--host", host)?,
            port: arguments.opt_value_from_fn(["-p", "--port"], port)?,
        };
        let check = arguments.contains("--check");
        let against = arguments.opt_value_from_fn("--against", path)?;
        let dry_run = arguments.opt_value_from_fn("--dry-run", path)?;
        let stdout = arguments.contains("--stdout");
        let log_level = arguments.opt_value_from_fn("--log-level", level)?;
        let log_format = arguments.opt_value_from_fn("--log-format", format)?;
        if let Some(unknown) = arguments.finish().into_iter().next() {
            let text = unknown.to_string_lossy();
            if FLAGS.contains(&&*text) || SHORT_FLAGS.contains(&&*text) {
                return Err(UsageError::Twice(text.into_owned()));
            }
            // A value may be a secret; and who looks at the command line sees it anyway.
            let (name, _) = text.split_once('=').unwrap_or((&text, ""));
            if FLAGS.contains(&name) {
                return Err(UsageError::NoValue(name.to_owned()));
            }
            return Err(if name.starts_with('-') {
                UsageError::Unknown(name.to_owned(), did_you_mean(name, FLAGS))
            } else {
                UsageError::NoOption
            });
        }
        let task = match (check, against, dry_run, stdout) {
            _ if help => Task::Help,
            _ if version => Task::Version,
            (false, Some(_), ..) => return Err(UsageError::AgainstAlone),
            (false, None, None, false) => Task::Serve,
            (false, None, None, true) => Task::ServeToStdout,
            (true, None, None, false) => Task::Check,
            (true, Some(file), None, false) => Task::CheckAgainst(file),
            (false, None, Some(file), false) => Task::DryRun(file),
            _ => return Err(UsageError::Conflict),
        };
        Ok(Self {
            task,
            config: config.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)),
            overrides,
            log_level: or_variable(log_level, LOG_LEVEL, level, environment)?
                .unwrap_or(LevelFilter::Info),
            log_format: or_variable(log_format, LOG_FORMAT, format, environment)?
                .unwrap_or(Format::Auto),
        })
    }
}

fn or_variable<T>(
    option: Option<T>,
    name: &'static str,
    read: fn(&str) -> Result<T, &'static str>,
    environment: Environment<'_>,
) -> Result<Option<T>, UsageError> {
    match (option, environment(name)) {
        (Some(value), _) => Ok(Some(value)),
        (None, None) => Ok(None),
        (None, Some(text)) => {
            let text = text.map_err(|_| UsageError::Variable(name, "is not UTF-8"))?;
            read(&text)
                .map(Some)
                .map_err(|reason| UsageError::Variable(name, reason))
        }
    }
}

fn host(text: &str) -> Result<String, &'static str> {
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if text.is_empty() {
        Err("--host takes an address")
    } else {
        Ok(text.to_owned())
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse()
        .map_err(|_| "--port takes a number from 0 to 65535")
}

fn level(text: &str) -> Result<LevelFilter, &'static str> {
    match text.parse() {
        Ok(LevelFilter::Off) | Err(_) => Err("--log-level takes error, warn, info, debug or trace"),
        Ok(level) => Ok(level),
    }
}

fn format(text: &str) -> Result<Format, &'static str> {
    Format::parse(text).ok_or("--log-format takes text, json or auto")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, UsageError> {
        parse_with(line, &[])
    }

    fn parse_with(line: &str, variables: &[(&str, &str)]) -> Result<Cli, UsageError> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| Ok((*value).to_owned()))
        };
        Cli::parse(line.split_whitespace().map(OsString::from).collect(), &find)
    }

    #[test]
    fn every_option_is_understood_and_helped_with() {
        let cli =
            parse("-c /a --host [::1] -p 1 --stdout --log-level debug --log-format=json").unwrap();
        assert_eq!(
            (cli.task, cli.config),
            (Task::ServeToStdout, PathBuf::from("/a"))
        );
        assert_eq!(
            (cli.overrides.host.as_deref(), cli.overrides.port),
            (Some("::1"), Some(1))
        );
        assert_eq!(
            (cli.log_level, cli.log_format),
            (LevelFilter::Debug, Format::Json)
        );
        for (line, task) in [
            ("", Task::Serve),
            ("--check", Task::Check),
            (
                "--against n.json --check",
                Task::CheckAgainst(PathBuf::from("n.json")),
            ),
            ("--dry-run -", Task::DryRun(PathBuf::from("-"))),
            ("--version --check", Task::Version),
            ("-h", Task::Help),
        ] {
            assert_eq!(parse(line).unwrap().task, task, "{line}");
        }
        for flag in FLAGS {
            assert!(HELP.contains(flag), "{flag}");
        }
        assert!(HELP.contains(DEFAULT_PATH));
    }

    #[test]
    fn the_log_may_be_set_by_variables() {
        let variables = [
            ("PROMETHEUS_LOG_LEVEL", "debug"),
            ("PROMETHEUS_LOG_FORMAT", "json"),
        ];
        let cli = parse_with("--log-format text", &variables).unwrap();
        assert_eq!(
            (cli.log_level, cli.log_format),
            (LevelFilter::Debug, Format::Text)
        );
        let wrong = parse_with("", &[("PROMETHEUS_LOG_LEVEL", "loud")])
            .unwrap_err()
            .to_string();
        assert!(
            wrong.starts_with("PROMETHEUS_LOG_LEVEL: --log-level takes error"),
            "{wrong}"
        );
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, reason) in [
            ("--chek", "unknown option --chek; did you mean \"--check\"?"),
            ("--tokn=hunter2", "unknown option --tokn"),
            (
                "amqp://u:hunter2@h",
                "an argument that belongs to no option",
            ),
            ("--check=1", "--check takes no value"),
            ("--port", "'--port' option doesn't have an associated value"),
            ("--port 70000", "--port takes a number from 0 to 65535"),
            ("--log-level off", "--log-level takes error, warn"),
            ("--log-format xml", "--log-format takes text, json or auto"),
            ("--check --stdout", "exclude each other"),
            ("--check --against a --dry-run b", "exclude each other"),
            (
                "--against a",
                "--against belongs to --check: write --check --against FILE",
            ),
            ("--against a --dry-run b", "--against belongs to --check"),
            (
                "--check --against",
                "'--against' option doesn't have an associated value",
            ),
            (
                "--check --against a --against b",
                "--against is given twice",
            ),
            ("--check --check", "--check is given twice"),
            ("-p 1 -p 2", "-p is given twice"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(
                error.contains(reason) && !error.contains("hunter2"),
                "{line}: {error}"
            );
        }
    }
}
