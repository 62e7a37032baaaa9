//! The command line: options, their variables, and the help text. What a mode does is up to `service`.

use std::ffi::OsString;
use std::path::PathBuf;

use log::LevelFilter;
use pico_args::Arguments;

use crate::config::{DEFAULT_PATH, Environment, LOG_FORMAT, LOG_LEVEL, Overrides};
use crate::logging::Format;
use crate::suggest::did_you_mean;

/// The output of `--help`.
pub const HELP: &str = "\
Turns Prometheus Alertmanager notifications into Canopsis events on RabbitMQ.

Usage: canopsis-connector-prometheus [OPTIONS]

  -c, --config FILE        the configuration file
                           [default: /etc/canopsis-connectors/prometheus/config.yml]
      --host ADDR          listen on this address instead of that in http.listen
  -p, --port N             listen on this port instead of that in http.listen; 0: any free port
      --check              check the configuration, print a summary, and exit
      --explain FILE|-     read a notification (as Alertmanager posts it), explain field by field
                           how its alerts are mapped, print which of them share an alarm, and
                           exit; status 1 if an alert is rejected. Also takes one alert, and the
                           output of Alertmanager's GET /api/v2/alerts/groups, GET
                           /api/v2/alerts and amtool alert query -o json
      --dry-run FILE|-     read the same, print each event as one JSON line and the rest to
                           standard error, and exit; status 1 if an alert is rejected
      --stdout             serve, but print the events instead of publishing them
      --log-level LEVEL    error, warn, info, debug or trace [default: info]
      --log-format FORMAT  text, json or auto (with priorities under systemd, else text)
                           [default: auto]
  -V, --version            print the version and exit
  -h, --help               print this help and exit

Environment: each key of the sections amqp and http has a variable, which overrides the
file: CPS_AMQP_URL for amqp.url, PROMETHEUS_LISTEN for http.listen. The most common:
  CPS_AMQP_URL                  the URL of RabbitMQ; separate several by white space
  CPS_AMQP_URL_FILE             a file that contains it
  PROMETHEUS_BEARER_TOKEN       the token that senders must present
  PROMETHEUS_BEARER_TOKEN_FILE  a file that contains it
  PROMETHEUS_LOG_LEVEL, PROMETHEUS_LOG_FORMAT
                                like --log-level and --log-format, which override them

Exit status: 0 success; 1 failure at run time; 2 invalid command line or configuration.
";

/// The options, as the help lists them at the starts of lines, and whether each takes a value.
fn options() -> impl Iterator<Item = (&'static str, bool)> {
    let lines = HELP.lines().map(str::trim_start);
    lines.filter(|line| line.starts_with('-')).flat_map(|line| {
        let (names, _) = line.split_once("  ").unwrap_or((line, ""));
        let words = names.split([',', ' ']);
        let takes_value = words
            .clone()
            .any(|word| word.starts_with(char::is_uppercase));
        words
            .filter(|word| word.starts_with('-'))
            .map(move |word| (word, takes_value))
    })
}

/// What the program does. A notification's file is read from standard input where it is `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Serve, and publish to RabbitMQ.
    Serve,
    /// Serve, and print the events (`--stdout`).
    ServeToStdout,
    /// Check the configuration (`--check`).
    Check,
    /// Explain how the notification in this file is mapped (`--explain`).
    Explain(PathBuf),
    /// Print the events of the notification in this file (`--dry-run`).
    DryRun(PathBuf),
    /// Print the options (`--help`).
    Help,
    /// Print the version (`--version`).
    Version,
}

/// A valid command line.
#[derive(Debug, Clone)]
pub struct Cli {
    /// What the program does.
    pub mode: Mode,
    /// The configuration file.
    pub config: PathBuf,
    /// The options that override the configuration file.
    pub overrides: Overrides,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
    /// The format of log entries.
    pub log_format: Format,
}

/// Why a command line is invalid.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// An option's value is missing or invalid.
    #[error("{0}")]
    Value(#[from] pico_args::Error),
    /// An argument is not an option, or not one that may be given here.
    #[error("{0}")]
    Unused(String),
    /// The variable for an option has an invalid value.
    #[error("environment variable {0}: {1}")]
    Variable(&'static str, &'static str),
    /// More than one mode.
    #[error("--check, --explain, --dry-run and --stdout are mutually exclusive")]
    Conflict,
}

/// Why an argument is not used. Its value is not shown: it may be a secret.
fn explain_unused(argument: &str) -> String {
    let name = argument.split('=').next().unwrap_or_default();
    match options().find(|(option, _)| *option == name) {
        Some((_, takes_value)) if takes_value || name == argument => {
            format!("{name} is given twice")
        }
        Some(_) => format!("{name} takes no value"),
        None if name.starts_with('-') => {
            let options = options().map(|(option, _)| option);
            let long = options.filter(|option| option.starts_with("--"));
            format!("unknown option {name}{}", did_you_mean(name, long))
        }
        None => "unexpected argument (not shown; it may be a secret); name the configuration file with --config FILE".to_owned(),
    }
}

impl Cli {
    /// Parses the arguments, without the program's name. The variables for `--log-level` and `--log-format` are defaults.
    pub fn parse(arguments: Vec<OsString>, environment: &Environment) -> Result<Self, UsageError> {
        let mut arguments = Arguments::from_vec(arguments);
        let help = arguments.contains(["-h", "--help"]);
        let version = arguments.contains(["-V", "--version"]);
        let config = arguments.opt_value_from_str(["-c", "--config"])?;
        let overrides = Overrides {
            host: arguments.opt_value_from_fn("--host", host)?,
            port: arguments.opt_value_from_fn(["-p", "--port"], port)?,
        };
        let check = arguments.contains("--check");
        let explain = arguments.opt_value_from_str("--explain")?;
        let dry_run = arguments.opt_value_from_str("--dry-run")?;
        let stdout = arguments.contains("--stdout");
        let log_level = arguments.opt_value_from_fn("--log-level", level)?;
        let log_format = arguments.opt_value_from_fn("--log-format", format)?;
        if let Some(left) = arguments.finish().first() {
            let reason = explain_unused(&left.to_string_lossy());
            return Err(UsageError::Unused(reason));
        }
        let mode = match (check, explain, dry_run, stdout) {
            _ if help => Mode::Help,
            _ if version => Mode::Version,
            (false, None, None, false) => Mode::Serve,
            (false, None, None, true) => Mode::ServeToStdout,
            (true, None, None, false) => Mode::Check,
            (false, Some(file), None, false) => Mode::Explain(file),
            (false, None, Some(file), false) => Mode::DryRun(file),
            _ => return Err(UsageError::Conflict),
        };
        Ok(Self {
            mode,
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
    environment: &Environment,
) -> Result<Option<T>, UsageError> {
    if option.is_some() {
        return Ok(option);
    }
    let value = environment.get(name).map(|text| text.and_then(read));
    let value = value.transpose();
    value.map_err(|reason| UsageError::Variable(name, reason))
}

fn host(text: &str) -> Result<String, &'static str> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match bare.unwrap_or(text) {
        "" => Err("--host takes an address"),
        host => Ok(host.to_owned()),
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
    match text {
        "auto" => Ok(Format::Auto),
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("--log-format takes text, json or auto"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, UsageError> {
        parse_with(line, &[])
    }

    fn parse_with(line: &str, variables: &[(&str, &str)]) -> Result<Cli, UsageError> {
        let environment = variables.iter().copied().collect();
        Cli::parse(
            line.split_whitespace().map(OsString::from).collect(),
            &environment,
        )
    }

    #[test]
    fn every_option_is_parsed_and_in_the_help() {
        let cli =
            parse("-c /a --host [::1] -p 1 --stdout --log-level debug --log-format=json").unwrap();
        assert_eq!(
            (cli.mode, cli.config),
            (Mode::ServeToStdout, PathBuf::from("/a"))
        );
        assert_eq!(
            (cli.overrides.host.as_deref(), cli.overrides.port),
            (Some("::1"), Some(1))
        );
        assert_eq!(
            (cli.log_level, cli.log_format),
            (LevelFilter::Debug, Format::Json)
        );
        for (line, mode) in [
            ("", Mode::Serve),
            ("--check", Mode::Check),
            ("--explain n.json", Mode::Explain(PathBuf::from("n.json"))),
            ("--dry-run -", Mode::DryRun(PathBuf::from("-"))),
            ("--version --check", Mode::Version),
            ("-h", Mode::Help),
        ] {
            assert_eq!(parse(line).unwrap().mode, mode, "{line}");
        }
        let all = "-c= --config= --host= -p= --port= --check --explain= --dry-run= --stdout --log-level= --log-format= -V --version -h --help";
        let all = all
            .split(' ')
            .map(|option| (option.trim_end_matches('='), option.ends_with('=')));
        assert!(options().eq(all), "{HELP}");
        assert!(HELP.contains(DEFAULT_PATH));
    }

    #[test]
    fn variables_set_the_log() {
        let variables = [
            ("PROMETHEUS_LOG_LEVEL", "debug\r"),
            ("PROMETHEUS_LOG_FORMAT", " json\r\n"),
        ];
        let cli = parse_with("", &variables).unwrap();
        assert_eq!(cli.log_format, Format::Json);
        let cli = parse_with("--log-format text", &variables).unwrap();
        assert_eq!(
            (cli.log_level, cli.log_format),
            (LevelFilter::Debug, Format::Text)
        );
        let wrong = parse_with("", &[("PROMETHEUS_LOG_LEVEL", "loud")])
            .unwrap_err()
            .to_string();
        assert!(
            wrong.starts_with("environment variable PROMETHEUS_LOG_LEVEL: --log-level takes error"),
            "{wrong}"
        );
    }

    #[test]
    fn an_invalid_command_line_is_explained() {
        for (line, reason) in [
            ("--chek", "unknown option --chek; did you mean \"--check\"?"),
            ("--tokn=hunter2", "unknown option --tokn"),
            (
                "config.yml",
                "(not shown; it may be a secret); name the configuration file with --config FILE",
            ),
            ("amqp://u:hunter2@h", "unexpected argument (not shown"),
            ("--check=1", "--check takes no value"),
            ("--port", "'--port' option doesn't have an associated value"),
            ("--port 70000", "--port takes a number from 0 to 65535"),
            ("--log-level off", "--log-level takes error, warn"),
            ("--log-format xml", "--log-format takes text, json or auto"),
            ("--check --stdout", "mutually exclusive"),
            ("--check --explain a", "mutually exclusive"),
            ("--explain a --dry-run b", "mutually exclusive"),
            (
                "--explain",
                "'--explain' option doesn't have an associated value",
            ),
            ("--explain a --explain b", "--explain is given twice"),
            ("--check --check", "--check is given twice"),
            ("-p 1 -p 2", "-p is given twice"),
            ("-p=1 -p=2", "-p is given twice"),
            ("--port=1 --port=2", "--port is given twice"),
            ("-h -h=1", "-h takes no value"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(
                error.contains(reason) && !error.contains("hunter2"),
                "{line}: {error}"
            );
        }
    }
}
