//! The subcommands, one file each.

pub(crate) mod serve;
pub(crate) mod worker;

pub(crate) mod run;
pub(crate) mod watch;

pub(crate) mod act;
pub(crate) mod list;

pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod keys;

pub(crate) mod backup;
pub(crate) mod doctor;
