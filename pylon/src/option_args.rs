//! Flags that come from the table of options: a command lists which it takes, the row says the rest.

use std::marker::PhantomData;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use gptoss_protocol::OptionId;
use gptoss_protocol::options::{Kind, OptionRow, Settings};

use crate::error::CliError;

/// A group of options that a command takes.
pub trait Group {
    const OPTIONS: &'static [OptionId];

    /// The default in words, for the help; a command may have one of its own.
    fn default_words(option: OptionId) -> &'static str {
        option.row().default.pylon
    }

    /// Adds to the flag what the row does not say: a short name, flags that it contradicts.
    fn refine(_option: OptionId, arg: Arg) -> Arg {
        arg
    }
}

/// The flags of a group of options, as they were given. Their clap ids are the flags' names.
#[derive(Clone, Debug)]
pub struct OptionArgs<G> {
    given: Vec<(OptionId, String)>,
    group: PhantomData<G>,
}

impl<G> Default for OptionArgs<G> {
    fn default() -> Self {
        Self { given: Vec::new(), group: PhantomData }
    }
}

impl<G> OptionArgs<G> {
    /// Stores the given values in `settings`.
    ///
    /// # Errors
    /// A value cannot be used. Those that clap read can.
    pub fn apply(&self, settings: &mut Settings) -> Result<(), CliError> {
        for (option, text) in &self.given {
            option.row().apply(settings, text).map_err(|expected| CliError::Argument {
                what: flag_of(*option),
                got: format!("{text:?}"),
                expected,
            })?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn of(given: &[(OptionId, &str)]) -> Self {
        let given = given.iter().map(|(option, text)| (*option, (*text).to_owned())).collect();
        Self { given, group: PhantomData }
    }
}

impl<G: Group> clap::Args for OptionArgs<G> {
    fn augment_args(command: Command) -> Command {
        G::OPTIONS.iter().fold(command, |command, option| command.arg(arg::<G>(option.row())))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<G: Group> clap::FromArgMatches for OptionArgs<G> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for &option in G::OPTIONS {
            let Some(flag) = option.row().flag else { continue };
            if let Some(word) = flag.means {
                if matches.get_flag(flag.name) {
                    self.given.push((option, word.to_owned()));
                }
            } else if let Some(texts) = matches.get_many::<String>(flag.name) {
                self.given.extend(texts.map(|text| (option, text.clone())));
            }
        }
        Ok(())
    }
}

/// Name of an option on the command line: its flag, or otherwise the name it is known by.
pub fn flag_of(option: OptionId) -> String {
    option.flag().unwrap_or_else(|| option.name())
}

fn arg<G: Group>(row: &'static OptionRow) -> Arg {
    let flag = row.flag.unwrap_or_else(|| panic!("{:?} has no flag", row.id));
    let arg = Arg::new(flag.name).long(flag.name);
    let arg = match flag.means {
        Some(_) => arg.action(ArgAction::SetTrue).help(row.flag_help()),
        None => {
            let action = if flag.repeats { ArgAction::Append } else { ArgAction::Set };
            let help = match G::default_words(row.id) {
                // The effect of giving nothing is plain there.
                "none" => row.flag_help(),
                words => format!("{} [default: {words}]", row.flag_help()),
            };
            value_of(row, arg.action(action).help(help))
        }
    };
    G::refine(row.id, arg)
}

/// Sets the value's name in the help, and how it is parsed, from the row.
fn value_of(row: &'static OptionRow, arg: Arg) -> Arg {
    let read = move |text: &str| {
        let read = row.check(text).map(|()| text.to_owned());
        read.map_err(|expected| format!("expected {expected}"))
    };
    match row.kind {
        Kind::Words { words, .. } => {
            let texts: Vec<&str> = words.iter().map(|word| word.text).collect();
            arg.value_name("WORD").value_parser(PossibleValuesParser::new(texts))
        }
        Kind::Whole { .. } => arg.value_name("N").value_parser(read),
        Kind::Number { .. } | Kind::Seconds { .. } => {
            arg.value_name("X").value_parser(read).allow_negative_numbers(true)
        }
        Kind::Bytes { .. } => arg.value_name("BYTES").value_parser(read),
        Kind::Text { .. } => arg.value_name("TEXT").value_parser(read),
        Kind::Date { .. } => arg.value_name("DATE").value_parser(read),
        Kind::Address { .. } => arg.value_name("ADDRESS").value_parser(read),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};
    use gptoss_protocol::options::OPTIONS;

    use super::*;

    /// Every option of the table.
    #[derive(Clone, Debug)]
    struct All;

    impl Group for All {
        const OPTIONS: &'static [OptionId] = &[
            OptionId::Prompt,
            OptionId::PromptFormat,
            OptionId::Instructions,
            OptionId::Effort,
            OptionId::Date,
            OptionId::MaxNewTokens,
            OptionId::Stop,
            OptionId::Temperature,
            OptionId::TopK,
            OptionId::TopP,
            OptionId::MinP,
            OptionId::Seed,
            OptionId::MaxKvTokens,
            OptionId::KvFormat,
            OptionId::ExpertMemory,
            OptionId::GpuMemory,
            OptionId::ExpertLoading,
            OptionId::Layers,
            OptionId::Tier,
            OptionId::Yarn,
            OptionId::Threads,
        ];
    }

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        let command = OptionArgs::<All>::augment_args(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let mut settings = Settings::pylon();
        OptionArgs::<All>::from_arg_matches(&matches).expect("read").apply(&mut settings).expect("checked");
        Ok(settings)
    }

    #[test]
    fn clap_agrees_with_itself() {
        OptionArgs::<All>::augment_args(Command::new("test")).debug_assert();
    }

    /// The page and the command line accept the same texts for the same option, with the same result.
    #[test]
    fn flags_take_what_the_page_takes() {
        // A path is no address, and experts have only one choice.
        let others = [OptionId::Gguf, OptionId::Moe];
        for row in OPTIONS.iter().filter(|row| row.flag.is_some() && !others.contains(&row.id)) {
            let flag = row.id.flag().expect("filtered");
            if let Some(word) = row.flag.and_then(|flag| flag.means) {
                let mut by_word = Settings::pylon();
                row.apply(&mut by_word, word).expect("its own word");
                assert_eq!(parse(&[&flag]), Ok(by_word), "{flag}");
                continue;
            }
            let words = row.words().iter().map(|word| word.text);
            for text in row.examples.iter().copied().chain(words) {
                let mut by_row = Settings::pylon();
                row.apply(&mut by_row, text).expect("an example");
                assert_eq!(parse(&[&flag, text]), Ok(by_row), "{flag} {text}");
            }
            assert!(parse(&[&flag, ""]).is_err(), "{flag}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_names_the_flag_and_what_was_expected() {
        for (flag, text, expected) in [
            ("--temperature", "2.5", "0 (greedy) to 2"),
            ("--temperature", "-1", "0 (greedy) to 2"),
            ("--expert-memory", "lots", "1536Mi"),
            ("--reasoning", "much", "medium"),
            ("--threads", "0", "1024"),
        ] {
            let error = parse(&[flag, text]).expect_err("refused");
            assert!(error.contains(flag) && error.contains(text) && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_repeats_is_all_kept() {
        assert_eq!(parse(&["--stop", "a", "--stop", "b"]).expect("good").prompt.stop, ["a", "b"]);
    }
}
