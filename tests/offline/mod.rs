//! What needs neither a broker nor Alertmanager: package builds run these tests without network.

mod alarms;
mod cli;
mod documents;
mod lists;
mod properties;
mod shipped_rules;
mod unit;
