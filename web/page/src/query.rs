//! The part of the page's address after `?`: what it chooses, and everything in it that cannot be used.

use gptoss_protocol::options::Settings;
use gptoss_protocol::{InputError, OptionId};

use super::inputs::{Inputs, check, input_error};

/// The parsed query string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Values for inputs, checked by the input's own parser; `errors` names those that were refused.
    pub inputs: Inputs,
    /// Options that the query names.
    pub named: Vec<OptionId>,
    /// Whether to start loading without waiting for a click.
    pub autostart: bool,
    /// Address of a recording that is to be shown; empty for none.
    pub recording: String,
    /// Everything that could not be used. With any error the page starts nothing by itself.
    pub errors: Vec<InputError>,
}

/// Parses `?a=b&c=d` (the question mark may be missing). Nothing that might be meant for this page is ignored: an
/// unknown name, a value that does not parse, a name that occurs twice and a broken escape are all errors. Names that
/// other parties are known to append to addresses say nothing about the model, see `is_others`.
pub fn parse(query: &str) -> Query {
    let mut reader = QueryReader::default();
    for part in query.strip_prefix('?').unwrap_or(query).split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if is_others(key) {
            continue;
        }
        match (decode(key), decode(value)) {
            (Some(key), Some(value)) => reader.pair(&key, &value),
            // Not its value, which may have a key in it.
            _ => reader.error(None, format!("\"{key}\" in the address is not valid percent-encoded UTF-8.")),
        }
    }
    reader.finish()
}

/// Prefixes of names that campaigns, mailings and translators append.
const OTHERS_PREFIXES: [&str; 9] = ["utm_", "hsa_", "mtm_", "pk_", "piwik_", "matomo_", "mc_", "vero_", "_x_tr_"];
/// Names that advertisers, networks, messengers and sites append: click ids, the place of a link, the language that it
/// was read in.
const OTHERS_NAMES: [&str; 43] = [
    "_branch_match_id",
    "_ga",
    "_gac",
    "_gl",
    "_hsenc",
    "_hsmi",
    "_kx",
    "_openstat",
    "ck_subscriber_id",
    "cvid",
    "dclid",
    "epik",
    "fb_action_ids",
    "fb_action_types",
    "fb_ref",
    "fb_source",
    "fbclid",
    "gad_source",
    "gad_campaignid",
    "gbraid",
    "gclid",
    "gclsrc",
    "hl",
    "hsctatracking",
    "igsh",
    "igshid",
    "lang",
    "li_fat_id",
    "locale",
    "mkt_tok",
    "msclkid",
    "oly_anon_id",
    "rdt_cid",
    "ref",
    "ref_src",
    "ref_url",
    "referrer",
    "s_cid",
    "srsltid",
    "ttclid",
    "twclid",
    "wbraid",
    "yclid",
];

/// Whether other parties are known to append this name to addresses, whatever page they lead to. No name of this page
/// is one.
pub(crate) fn is_others(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    OTHERS_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) || OTHERS_NAMES.contains(&key.as_str())
}

#[derive(Default)]
struct QueryReader {
    query: Query,
    seen: Vec<String>,
    /// Settings that stand in the address and have no input.
    settings: Settings,
}

impl QueryReader {
    fn pair(&mut self, key: &str, value: &str) {
        if self.seen.iter().any(|seen| seen == key) {
            return self.error(None, format!("{key} stands in the address more than once."));
        }
        self.seen.push(key.to_owned());
        let Some(option) = OptionId::of_key(key) else {
            return match key {
                "model" => {
                    self.error(None, "model in the address is not supported: name the file with gguf.".to_owned())
                }
                _ => self.error(None, format!("The address has a parameter \"{key}\" that this page does not know.")),
            };
        };
        if option.row().key.is_some_and(|key| key.in_form) {
            // A bad value goes into its input, too, where it is marked and can be corrected.
            self.query.inputs.set(option, value);
            self.query.named.push(option);
            self.query.errors.extend(check(option, value).err());
        } else if let Err(expected) = option.row().apply(&mut self.settings, value) {
            self.query.errors.push(input_error(option, value, &expected));
        }
    }

    /// Completes the query. `sample` says the same as a temperature of zero or above zero, so the two must agree.
    fn finish(mut self) -> Query {
        let temperature = self.query.inputs.get(OptionId::Temperature).parse::<f32>().ok();
        self.query.autostart = self.settings.autostart;
        self.query.recording.clone_from(&self.settings.recording);
        match (self.settings.sample, temperature) {
            (Some(false), Some(value)) if value > 0.0 => {
                self.error(Some(OptionId::Temperature), format!("sample=no (greedy) contradicts temp={value}."));
            }
            (Some(true), Some(0.0)) => {
                self.error(Some(OptionId::Temperature), "sample=yes contradicts temp=0 (greedy).".to_owned());
            }
            (Some(sample), None) if !self.query.named.contains(&OptionId::Temperature) => {
                self.query.inputs.set(OptionId::Temperature, if sample { "1" } else { "0" });
                self.query.named.push(OptionId::Temperature);
            }
            _ => {}
        }
        self.query
    }

    fn error(&mut self, field: Option<OptionId>, message: String) {
        self.query.errors.push(InputError { field, message });
    }
}

/// Decodes form encoding: `+` is a space, `%41` a byte; `None` for a broken escape or bytes that are not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::options::OPTIONS;

    use super::*;

    fn messages(query: &str) -> Vec<String> {
        parse(query).errors.into_iter().map(|error| error.message).collect()
    }

    #[test]
    fn an_empty_query_chooses_nothing() {
        for query in ["", "?", "?&&"] {
            assert_eq!(parse(query), Query::default(), "{query}");
        }
    }

    #[test]
    fn values_reach_their_inputs_decoded() {
        let query = parse(
            "?gguf=http%3A%2F%2Fh%3A1%2Fm.gguf&prompt=Add+2+and+%C3%A9%2B1.&max_new=64&layers=all&autostart=yes&moe=full",
        );
        assert_eq!(query.errors, []);
        assert!(query.autostart);
        assert_eq!(query.inputs.get(OptionId::Gguf), "http://h:1/m.gguf");
        assert_eq!(query.inputs.get(OptionId::Prompt), "Add 2 and é+1.");
        assert_eq!(query.inputs.get(OptionId::MaxNewTokens), "64");
        assert_eq!(query.named, [OptionId::Gguf, OptionId::Prompt, OptionId::MaxNewTokens, OptionId::Layers]);
    }

    #[test]
    fn nothing_is_ignored() {
        let cases = [
            ("?max_new=zero", "Max new tokens (max_new) is \"zero\""),
            ("?temp=", "Temperature (temp) is \"\""),
            ("?tmep=1", "a parameter \"tmep\" that this page does not know"),
            ("?seed=1&seed=2", "seed stands in the address more than once"),
            ("?prompt=%4", "not valid percent-encoded UTF-8"),
            ("?prompt=%ff", "not valid percent-encoded UTF-8"),
            ("?prompt=%zz", "not valid percent-encoded UTF-8"),
            ("?gguf=pylon", "expected pylon://host:port"),
            ("?gguf=pylons://", "expected pylon://host:port"),
            ("?gguf=ws://s3cretKEY@h:1", "is \"ws://…@h:1\", expected"),
            ("?gguf=pylon://s3cretKEY%40h%zz", "\"gguf\" in the address is not valid"),
            ("?gguf=file:///m.gguf", "cannot open file: addresses"),
            ("?moe=fallback", "expert routing is not supported"),
            ("?moe=maybe", "moe is \"maybe\", expected full"),
            ("?attn=0", "without attention is not supported"),
            ("?autostart=perhaps", "autostart is \"perhaps\", expected yes or no"),
            ("?autostart", "autostart is \"\", expected yes or no"),
            ("?data=x.json", "expected an http(s) address, or a path"),
            ("?model=x", "not supported"),
            ("?sample=no&temp=0.7", "sample=no (greedy) contradicts temp=0.7"),
            ("?temp=0&sample=yes", "sample=yes contradicts temp=0"),
        ];
        for (query, words) in cases {
            let messages = messages(query);
            assert!(messages.len() == 1 && messages[0].contains(words), "{query}: {messages:?}");
            assert!(!messages[0].contains("s3cretKEY"), "{query}: {messages:?}");
        }
        assert_eq!(messages("?max_new=a&top_k=b&x=c").len(), 3);
        let query = parse("?max_new=a");
        assert_eq!(
            (query.inputs.get(OptionId::MaxNewTokens), &query.named[..]),
            ("a", &[OptionId::MaxNewTokens][..]),
            "to be corrected"
        );
    }

    #[test]
    fn what_others_append_to_any_address_is_not_this_pages_business() {
        let query = parse(
            "?utm_source=news&utm_source=twice&fbclid=%zz&gclid=1&msclkid&ref=hn&lang=de&_gl=1*x&max_new=7&UTM_Medium=mail&mc_eid=a",
        );
        assert_eq!(query.errors, []);
        assert_eq!(query.named, [OptionId::MaxNewTokens]);
        assert_eq!(messages("?reference=1&language=de&utm=1&utmost_=2").len(), 4, "names that only look like them");
        for key in OPTIONS.iter().filter_map(|row| row.key) {
            assert!(!is_others(key.name), "{}", key.name);
        }
    }

    #[test]
    fn sample_sets_the_temperature_when_there_is_none() {
        assert_eq!(parse("sample=yes").inputs.get(OptionId::Temperature), "1");
        assert_eq!(parse("sample=0").inputs.get(OptionId::Temperature), "0");
        assert_eq!(parse("sample=yes&temp=0.4").inputs.get(OptionId::Temperature), "0.4");
        assert_eq!(messages("sample=yes&temp=x").len(), 1);
    }
}
