//! The flags of `serve`: one for each key of the table.

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use super::keys::{Fallback, KEYS, Key};

/// The flags that were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingFlags(pub(crate) Vec<(&'static Key, String)>);

/// Where the data is, is said to every subcommand.
fn own_keys() -> impl Iterator<Item = &'static Key> {
    let is_common = |key: &Key| ["data", "database_url"].contains(&key.name);
    KEYS.iter().filter(move |key| !is_common(key))
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let help = |key: &Key| {
            let default = match key.default {
                Fallback::Value(value) => format!(" [default: {}]", value.replace('_', "")),
                Fallback::Words(_) | Fallback::Required => String::new(),
            };
            let default = match key.kind {
                super::keys::Kind::Number { .. } => default,
                _ => default.replace("[default: []]", "[default: none]"),
            };
            format!("{}{default} [env: {}]", key.about, key.variable())
        };
        command.args(own_keys().map(|key| {
            let arg = Arg::new(key.flag())
                .long(key.flag())
                .value_name(key.kind.placeholder(key.name))
                .help(help(key))
                .help_heading("Settings");
            // There are many: all but the first are shown by --help alone.
            arg.hide_short_help(key.name != "listen")
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |key: &'static Key| {
            let text = matches.get_one::<String>(&key.flag())?;
            Some((key, text.clone()))
        };
        Ok(Self(own_keys().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
