//! `--config FILE`: the options of a command from a TOML file, under their own names.
//!
//! The entries become arguments before the command line is parsed, by the command's own definition: there is no second list
//! of options. What the command line has wins. Errors name the file, the line and the column.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

const OPTION: &str = "--config";
/// Options that may stand in front of the subcommand.
const GLOBAL: [&str; 3] = [OPTION, "--qlog", "--trace-ring"];
/// What makes no sense in a file.
const NOT_HERE: [&str; 3] = ["config", "help", "version"];

/// A value as the command line would have it, `None` for a switch, and where it is.
type Value = (Option<String>, Range<usize>);

/// What is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The arguments of a command line and its configuration file.
#[derive(Debug)]
pub(super) struct Merged {
    /// The program's name, the subcommand, what is in the file, and what was on the command line.
    pub(super) arguments: Vec<OsString>,
    file: Option<File>,
}

/// A file and where its entries are.
#[derive(Debug)]
struct File {
    path: PathBuf,
    text: String,
    entries: Vec<Entry>,
}

/// A value in a file.
#[derive(Debug)]
struct Entry {
    /// As errors call the option: `--name`, or the name of a positional argument's value.
    name: String,
    value: String,
    span: Range<usize>,
}

/// Adds the entries of the file that the command line names, if it does.
///
/// # Errors
/// The file can't be read, is not TOML, or has an entry that is no option of the command.
pub(super) fn merge(root: &Command, arguments: Vec<OsString>) -> Result<Merged, ConfigError> {
    let Some(path) = path(&arguments) else { return Ok(Merged { arguments, file: None }) };
    // clap sees what was derived lazily only in a command that is built.
    let mut root = root.clone();
    root.build();
    let (command, begin) = command(&root, &arguments);
    // Help, for example, needs no file.
    let Ok(matches) = root.clone().ignore_errors(true).try_get_matches_from(&arguments) else {
        return Ok(Merged { arguments, file: None });
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| ConfigError(format!("can't read {}: {error}; name another {OPTION}", path.display())))?;
    let mut file = File { path, text, entries: Vec::new() };
    let added = file.arguments(command, &given(&matches))?;
    let mut merged = arguments;
    merged.splice(begin..begin, added);
    Ok(Merged { arguments: merged, file: Some(file) })
}

/// The file that the arguments name.
fn path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == OPTION {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

/// The subcommand, and where its own arguments begin.
fn command<'a>(root: &'a Command, arguments: &[OsString]) -> (&'a Command, usize) {
    let (mut command, mut begin, mut next) = (root, 1, 1);
    while let Some(argument) = arguments.get(next) {
        let text = argument.to_string_lossy();
        if GLOBAL.contains(&&*text) {
            next += 2;
        } else if GLOBAL.iter().any(|name| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))) {
            next += 1;
        } else if let Some(found) = command.find_subcommand(argument) {
            next += 1;
            (command, begin) = (found, next);
        } else {
            break;
        }
    }
    (command, begin)
}

/// What the command line has.
fn given(matches: &ArgMatches) -> BTreeSet<String> {
    let mut matches = matches;
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    let is_given = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().filter(is_given).map(|id| id.as_str().to_owned()).collect()
}

/// The option that an entry names; positional arguments have the name of their value in small letters, or their own.
fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    let is_named = |argument: &&Arg| match argument.get_long() {
        Some(long) => long == key,
        None => argument.is_positional() && argument.get_id() == key,
    };
    command.get_arguments().find(is_named).filter(|_| !NOT_HERE.contains(&key))
}

/// The names that entries may have.
fn names(command: &Command) -> Vec<String> {
    let name = |argument: &Arg| argument.get_long().map_or_else(|| argument.get_id().to_string(), str::to_owned);
    command.get_arguments().map(name).filter(|name| !NOT_HERE.contains(&name.as_str())).collect()
}

impl File {
    /// Where a span begins: `file:line:column`.
    fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    fn wrong(&self, span: &Range<usize>, what: impl fmt::Display) -> ConfigError {
        ConfigError(format!("{}: {what}", self.place(span)))
    }

    /// The arguments that the entries stand for. What is given on the command line, and what conflicts with that, is left
    /// out.
    fn arguments(&mut self, command: &Command, given: &BTreeSet<String>) -> Result<Vec<OsString>, ConfigError> {
        let text = self.text.clone();
        let table = DeTable::parse(&text)
            .map_err(|error| self.wrong(&error.span().unwrap_or_default(), error.message().trim_end()))?;
        let (mut options, mut positional) = (Vec::new(), Vec::new());
        for (key, value) in table.get_ref() {
            let Some(argument) = find(command, key.get_ref()) else {
                let known = names(command).join(", ");
                let what =
                    format!("there is no option {:?} of tcpls {}; it has {known}", key.get_ref(), command.get_name());
                return Err(self.wrong(&key.span(), what));
            };
            let values = self.values(argument, key.get_ref(), value.get_ref(), value.span())?;
            let wins = |id: &str| given.contains(id);
            let conflicts = command.get_arg_conflicts_with(argument);
            let reverse = |other: &&Arg| {
                command.get_arg_conflicts_with(other).iter().any(|arg| arg.get_id() == argument.get_id())
            };
            let is_out = wins(argument.get_id().as_str())
                || conflicts.iter().any(|other| wins(other.get_id().as_str()))
                || command.get_arguments().filter(|other| wins(other.get_id().as_str())).any(|other| reverse(&other));
            if is_out {
                continue;
            }
            for (value, span) in values {
                match (argument.get_long(), &value) {
                    (Some(long), None) => options.push(format!("--{long}").into()),
                    (Some(long), Some(value)) => options.push(format!("--{long}={value}").into()),
                    (None, Some(value)) if value.starts_with('-') => {
                        return Err(self.wrong(&span, format!("{value:?} begins with -")));
                    }
                    (None, value) => positional.push((argument.get_index(), value.clone().unwrap_or_default().into())),
                }
                let name = argument.to_string();
                let name = name.split([' ', '=']).next().unwrap_or_default().to_owned();
                self.entries.push(Entry { name, value: value.unwrap_or_default(), span });
            }
        }
        positional.sort_by_key(|(index, _): &(Option<usize>, OsString)| *index);
        options.extend(positional.into_iter().map(|(_, value)| value));
        Ok(options)
    }

    /// The values of an entry, as the command line would have them; `None` is that of a switch.
    fn values(
        &self,
        argument: &Arg,
        key: &str,
        value: &DeValue<'_>,
        span: Range<usize>,
    ) -> Result<Vec<Value>, ConfigError> {
        if !argument.get_action().takes_values() {
            return match value {
                DeValue::Boolean(true) => Ok(vec![(None, span)]),
                DeValue::Boolean(false) => Ok(Vec::new()),
                other => Err(self.wrong(&span, format!("{key} is true or false, not {}", kind(other)))),
            };
        }
        let many = argument.get_num_args().is_some_and(|number| number.max_values() > 1);
        match value {
            DeValue::Array(list) if many || matches!(argument.get_action(), ArgAction::Append) => list
                .iter()
                .map(|value| Ok((Some(self.value(key, value.get_ref(), &value.span())?), value.span())))
                .collect(),
            DeValue::Array(_) => Err(self.wrong(&span, format!("{key} has one value, not several"))),
            value => Ok(vec![(Some(self.value(key, value, &span)?), span)]),
        }
    }

    fn value(&self, key: &str, value: &DeValue<'_>, span: &Range<usize>) -> Result<String, ConfigError> {
        match value {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            DeValue::Integer(number) => Ok(number.to_string()),
            DeValue::Float(number) => Ok(number.to_string()),
            other => Err(self.wrong(span, format!("{key} is a string or a number, not {}", kind(other)))),
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl Merged {
    /// Where in the file that is which an error of the command line is about.
    pub(super) fn place(&self, error: &clap::Error) -> Option<String> {
        let file = self.file.as_ref()?;
        let named: Vec<&str> = match error.get(ContextKind::InvalidArg)? {
            ContextValue::String(name) => vec![name],
            ContextValue::Strings(names) => names.iter().map(String::as_str).collect(),
            _ => return None,
        };
        let value = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) => Some(value),
            _ => None,
        };
        let is_meant = |entry: &&Entry| {
            let is_named = named.iter().any(|name| name.split([' ', '=']).next() == Some(&entry.name));
            is_named && value.is_none_or(|value| *value == entry.value)
        };
        file.entries.iter().find(is_meant).map(|entry| file.place(&entry.span))
    }

    /// Whether errors are to be JSON.
    pub(super) fn wants_json(&self) -> bool {
        wants_json(&self.arguments)
    }
}

/// Whether the arguments ask for JSON.
pub(super) fn wants_json(arguments: &[OsString]) -> bool {
    let mut before = OsStr::new("");
    arguments.iter().any(|argument| {
        let is_json = argument == "--json" || argument == "--log=json" || (before == "--log" && argument == "json");
        before = argument;
        is_json
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::Cli;

    /// Values, one of which every option takes.
    const SAMPLES: &[&str] = &[
        "1",
        "name=1",
        "64,128",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "1s",
        "127.0.0.1:0",
        "127.0.0.1",
        "ann",
        "name:file",
        "@file",
        "1:127.0.0.1:1",
        "1:127.0.0.1:1:1",
        "1=127.0.0.1:1",
        "1MiB",
        "bash",
        "text",
        "rr",
        "127.0.0.1:0,1",
        "127.0.0.1:1",
        "0..2",
        "0-1",
    ];

    /// The arguments of a command with a file of this text.
    fn merged(text: &str, line: &[&str]) -> Result<Merged, String> {
        let root = Cli::command();
        let mut root_built = root.clone();
        root_built.build();
        let arguments: Vec<OsString> = line.iter().map(OsString::from).collect();
        let (command, begin) = command(&root_built, &arguments);
        let mut file = File { path: "tcpls.toml".into(), text: text.to_owned(), entries: Vec::new() };
        let matches = root.ignore_errors(true).try_get_matches_from(&arguments).unwrap();
        let added = file.arguments(command, &given(&matches)).map_err(|error| error.to_string())?;
        let mut arguments = arguments;
        arguments.splice(begin..begin, added);
        Ok(Merged { arguments, file: Some(file) })
    }

    fn texts(merged: &Merged) -> Vec<&str> {
        merged.arguments.iter().map(|argument| argument.to_str().unwrap()).collect()
    }

    /// Calls `each` with every command that has no subcommands, or does without, and the words that name it.
    fn commands(command: &Command, words: &[String], each: &mut impl FnMut(&Command, &[String])) {
        if !command.is_subcommand_required_set() && !words.is_empty() {
            each(command, words);
        }
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            commands(below, &[words, &[below.get_name().to_owned()]].concat(), each);
        }
    }

    #[test]
    fn every_option_of_every_command_is_accepted_from_a_file() {
        let mut root = Cli::command();
        root.build();
        let mut tried = 0;
        commands(&root, &[], &mut |command, words| {
            let line: Vec<&str> = std::iter::once("tcpls").chain(words.iter().map(String::as_str)).collect();
            for name in names(command) {
                let argument = find(command, &name).unwrap();
                let samples: Vec<String> = if argument.get_action().takes_values() {
                    let known = argument.get_possible_values();
                    let known = known.iter().map(|value| format!("{:?}", value.get_name()));
                    known.chain(SAMPLES.iter().map(|sample| format!("{sample:?}"))).collect()
                } else {
                    vec!["true".to_owned()]
                };
                let is_taken = samples.iter().any(|sample| {
                    let merged = merged(&format!("{name} = {sample}"), &line).unwrap();
                    let error = Cli::command().try_get_matches_from(&merged.arguments).err();
                    // Others may be missing.
                    !error.is_some_and(|error| {
                        let kinds = [ErrorKind::ValueValidation, ErrorKind::InvalidValue, ErrorKind::UnknownArgument];
                        kinds.contains(&error.kind())
                    })
                });
                assert!(is_taken, "{line:?} {name}");
                tried += 1;
            }
        });
        assert!(tried > 100, "{tried}");
    }

    #[test]
    fn what_the_command_line_has_wins() {
        let text = "listen = ['127.0.0.1:1', '127.0.0.1:2']\nwait = '5s'\ninsecure = true\nserver = 'a:1'\n";
        let shown = |line: &[&str]| texts(&merged(text, line).unwrap()).join(" ");
        assert_eq!(
            shown(&["tcpls", "socks"]),
            "tcpls socks --insecure --listen=127.0.0.1:1 --listen=127.0.0.1:2 --wait=5s a:1"
        );
        assert_eq!(
            shown(&["tcpls", "socks", "--listen", "127.0.0.1:3", "--ca", "file", "b:1"]),
            "tcpls socks --wait=5s --listen 127.0.0.1:3 --ca file b:1",
            "insecure conflicts with --ca"
        );
    }

    #[test]
    fn errors_have_file_line_and_column() {
        for (text, wanted) in [
            ("wait = '5s'\nlisten =\n", "tcpls.toml:2:9: "),
            ("\nliste = '127.0.0.1:1'\n", "tcpls.toml:2:1: there is no option \"liste\" of tcpls socks; it has "),
            ("config = 'other'\n", "tcpls.toml:1:1: there is no option \"config\""),
            ("insecure = 'yes'\n", "tcpls.toml:1:12: insecure is true or false, not a string"),
            ("wait = true\n", "tcpls.toml:1:8: wait is a string or a number, not true or false"),
            ("wait = ['5s']\n", "tcpls.toml:1:8: wait has one value, not several"),
            ("listen = ['127.0.0.1:1', false]\n", "tcpls.toml:1:26: listen is a string or a number"),
            ("[listen]\na = 1\n", "tcpls.toml:1:1: listen is a string or a number, not a table"),
            ("server = '--insecure'\n", "tcpls.toml:1:10: \"--insecure\" begins with -"),
        ] {
            let error = merged(text, &["tcpls", "socks"]).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
        let merged = merged("listen = ['127.0.0.1:1',\n  'nowhere']\n", &["tcpls", "socks"]).unwrap();
        let error = Cli::command().try_get_matches_from(&merged.arguments).unwrap_err();
        assert_eq!(merged.place(&error).as_deref(), Some("tcpls.toml:2:3"), "{error:?}");
    }

    #[test]
    fn the_file_may_be_named_anywhere_before_the_end_of_options() {
        let arguments = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in
            ["tcpls --config f proxy", "tcpls proxy --listen a:1 --config=f", "tcpls proxy --config f invite list"]
        {
            assert_eq!(path(&arguments(line)).as_deref(), Some(Path::new("f")), "{line}");
        }
        assert_eq!(path(&arguments("tcpls pipe a:1 -- --config f")), None);
        let mut root = Cli::command();
        root.build();
        let (command, begin) = command(&root, &arguments("tcpls --config f perf client --connect a:1"));
        assert_eq!((command.get_name(), begin), ("client", 5));
        let line = arguments("tcpls --qlog d --config=f --qlog=d perf client --connect a:1");
        assert_eq!(super::command(&root, &line).1, 7);
    }
}
