//! Settings that nobody should have written: faults, or a configuration, and never a panic.

use std::io::Write as _;

use proptest::{collection::vec, prelude::*, sample::Index, sample::select};

use super::*;
use crate::mangle::cases;

const TEMPLATE: &str = include_str!("../../tercet.toml");

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn any_text_is_faults_or_a_configuration(text in "([a-z.\"'\\[\\]{}= \n#0-9,]|\\PC){0,200}") {
        let _ = load(&text, Sources::default());
    }

    #[test]
    fn a_file_with_changed_lines_is_faults_or_a_configuration(
        changes in vec((any::<Index>(), any::<Index>(), ".{0,6}", 0..5), 1..6),
    ) {
        let mut lines: Vec<String> = TEMPLATE.lines().map(String::from).collect();
        for (at, other, text, how) in changes {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match how {
                0 => lines.swap(at, other),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines[at] = lines[at].trim_start_matches("# ").to_owned(),
                3 => lines[at] += &text,
                _ => {
                    let key = lines[at].split('=').next().unwrap_or_default().to_owned();
                    lines[at] = format!("{key}= {text:?}");
                }
            }
        }
        let _ = load(&lines.join("\n"), Sources::default());
    }

    #[test]
    fn any_variable_and_flag_is_a_fault_or_a_value(
        key in select(keys()), text in values(), other in ".{0,20}", participants in "([a-zA-Z0-9=,:/.-]|\\PC){0,60}",
    ) {
        let name = format!("TERCET_{}", key.replace('.', "_").to_uppercase());
        let environment = vec![
            (name, text.clone()),
            (format!("TERCET_{other}"), other.clone()),
            ("TERCET_PARTICIPANTS".into(), participants.clone()),
        ];
        let flag = |key: &str, value: &str| FlagValue {
            key: key.into(),
            value: value.into(),
            flag: format!("--set {key}"),
        };
        let layers = [
            Sources { environment, ..Sources::default() },
            Sources { flags: vec![flag(&key, &text)], ..Sources::default() },
            Sources { flags: vec![flag("participant", &participants)], ..Sources::default() },
            Sources { flags: vec![flag(&other, &text)], ..Sources::default() },
        ];
        for sources in layers {
            let _ = sources.load();
        }
    }

    /// `tercet config show` prints what makes the same configuration again.
    #[test]
    fn what_is_shown_is_read_as_the_same(
        settings in vec((select(keys()), values()), 0..9),
        names in proptest::collection::btree_set("[a-z][a-z0-9-]{0,9}", 0..3), port in 1..u16::MAX,
    ) {
        let settings = settings.into_iter().map(|(key, value)| (key, value));
        let participants = names.into_iter().map(|name| {
            (format!("participants.{name}.endpoints"), format!("http://{name}:{port} http://h:{port}"))
        });
        let text = printed(settings.chain(participants).collect::<BTreeMap<_, _>>().iter());
        let Ok(first) = load(&text, Sources::default()) else {
            return Ok(());
        };
        let again = printed(first.shown().iter().map(|it| (&it.key, &it.value)));
        let second = load(&again, Sources::default()).expect("what was shown is valid");
        let values = |config: &Config| {
            let shown = config.shown().iter();
            shown.map(|it| (it.key.clone(), it.value.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(values(&first), values(&second));
        let third = load(&printed(second.shown().iter().map(|it| (&it.key, &it.value))), Sources::default());
        prop_assert_eq!(without_paths(&second), without_paths(&third.expect("it is valid")));
    }
}

#[test]
fn keys_and_values_nested_as_deep_as_a_file_allows_are_faults() {
    let deep = 60_000;
    for text in [
        format!("{} = 1", vec!["a"; deep].join(".")),
        format!("[{}]", vec!["a"; deep].join(".")),
        format!("a = {}1", "[".repeat(deep)),
        format!("a = {}1{}", "[".repeat(deep), "]".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
    ] {
        load(&text, Sources::default()).expect_err("nothing of it is a setting");
    }
}

#[test]
fn a_file_of_more_than_256_kib_is_not_read_to_its_end() {
    let padding = "#".repeat(256 * 1024);
    load(&padding, Sources::default()).expect("as long as it may be");
    let error = load(&format!("{padding}#"), Sources::default()).expect_err("one byte more");
    assert!(
        error.to_string().contains("it has more than 262144 bytes"),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_that_never_ends_is_a_fault() {
    let sources = Sources {
        file: Some("/dev/zero".into()),
        ..Sources::default()
    };
    sources.load().expect_err("it is no file");
}

fn load(text: &str, sources: Sources) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it is written");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..sources
    };
    sources.load()
}

fn printed<'a>(settings: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key} = {}\n", quoted(value));
    settings.map(line).collect()
}

/// As TOML's basic strings have it.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// All of it, but for the name of the file it was read from.
fn without_paths(config: &Config) -> String {
    let text = format!("{config:?}");
    let mut parts = text.split("path: \"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('"').map_or(part, |(_, rest)| rest)
    })
}

fn keys() -> Vec<String> {
    let defaults = Config::defaults();
    defaults.shown().iter().map(|it| it.key.clone()).collect()
}

fn values() -> impl Strategy<Value = String> {
    const VALUES: [&str; 22] = [
        "",
        "0",
        "1",
        "-1",
        "64",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808",
        "1ms",
        "60s",
        "7days",
        "18446744073709551615s",
        "999999999999999999999years",
        "584542046090years 584542046090years",
        "127.0.0.1:0",
        "[::1]:65535",
        "http://[::1]:1",
        "http://a:1,http://b:2",
        "memory",
        "sled:/x",
        "warn,tercet=debug",
        "info[span{field=\"((((((\"}]=trace",
    ];
    prop_oneof![3 => select(&VALUES[..]).prop_map(String::from), 1 => ".{0,30}"]
}
