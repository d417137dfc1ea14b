//! The rules of the house that no compiler holds: who may know whom, what may not be written, how
//! long a file may be, and that every requirement names a test that exists.
//!
//! Everything is read from the source text, with comments and the insides of strings blanked out.
//! `CONTRIBUTING.md` explains them. A rule that stands in the way is changed here, in the open, with
//! the reason.

use std::{fmt::Write as _, fs};

use source::{Source, read, root, sources, words};

#[path = "tidy/source.rs"]
mod source;

/// The layers of the root crate: a module of `src/`, and the modules, or single items of them, that
/// it may know. `src/main.rs` and `lib.rs` are none: they declare.
///
/// `rpc → engine → {store, participants}`, all of them on `tercet-core`: a layer may look down, never
/// up and never sideways. `config` and `telemetry` are leaves, and `server` assembles.
const LAYERS: [(&str, &[&str]); 14] = [
    ("fields", &[]),
    ("gate", &[]),
    ("message", &[]),
    ("turn", &[]),
    // Both ends of HTTP/2; what is said over it is its users'.
    ("http2", &["turn"]),
    ("proto", &["fields"]),
    // Endpoints are parsed once, by those who know what one is.
    ("config", &["participants::EndpointUri"]),
    ("telemetry", &["config"]),
    ("store", &["fields", "message", "telemetry"]),
    // The origin and the times of a transaction travel with each of its calls.
    (
        "participants",
        &[
            "http2::frame",
            "http2::gather",
            "http2::silence",
            "message",
            "proto",
            "store::Origin",
            "store::UnixMs",
            "config",
            "gate",
            "telemetry",
            "turn",
        ],
    ),
    (
        "engine",
        &["store", "participants", "config", "gate", "telemetry"],
    ),
    // An error of the engine may hold a participant's, and a participant's report its token. Sessions
    // come in through the same door as clients.
    (
        "rpc",
        &[
            "http2",
            "proto",
            "engine",
            "store",
            "participants::TargetError",
            "participants::report_token",
            "participants::GrpcParticipants",
            "participants::session",
            "config",
            "telemetry",
        ],
    ),
    (
        "server",
        &[
            "http2",
            "proto::DESCRIPTORS",
            "rpc",
            "engine",
            "store",
            "participants",
            "config",
            "telemetry",
        ],
    ),
    // The binary reaches the library by its name, `tercet`.
    (
        "cli",
        &[
            "proto::DESCRIPTORS",
            "server",
            "store",
            "config",
            "telemetry",
        ],
    ),
];

/// Lines a file may have before its tests begin.
const FILE_LINES_MAX: usize = 500;

/// What would let time, chance or the outside world into the protocol.
const FORBIDDEN_IN_CORE: [&str; 12] = [
    "Instant",
    "SystemTime",
    "tokio",
    "rand",
    "fastrand",
    "async",
    "Mutex",
    "RwLock",
    "fs",
    "net",
    "env",
    "thread",
];

/// The requirements this release owes its users, each a row of `docs/requirements.md`.
const REQUIREMENTS: [u32; 31] = [
    1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 16, 17, 27, 28, 29, 30, 31, 32, 33, 34, 35, 37, 40, 41, 44,
    46, 48, 49, 52, 53,
];

#[test]
fn every_crate_is_read() {
    let sources = sources();
    for root in [
        "src/lib.rs",
        "src/main.rs",
        "core/src/lib.rs",
        "sdk/src/lib.rs",
        "tests/tidy.rs",
    ] {
        assert!(
            sources.iter().any(|source| source.path == root),
            "{root} was not found, so the other rules would hold of nothing"
        );
    }
}

#[test]
fn a_layer_knows_only_the_layers_below_it() {
    let mut faults = Faults::new("a layer may know only what LAYERS in tests/tidy.rs lists for it");
    for source in &sources() {
        let Some(layer) = source.layer() else {
            continue;
        };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            faults.add(source, 1, &format!("module `{layer}` has no row in LAYERS"));
            continue;
        };
        for (line, path) in source.paths_known() {
            let module = words(path).next().unwrap_or(path);
            let known = LAYERS.iter().any(|(name, _)| *name == module);
            let may = allowed.iter().any(|item| is_within(path, item));
            if known && module != layer && !may {
                faults.add(source, line, &format!("`{layer}` must not know `{path}`"));
            }
        }
    }
    faults.none();
}

/// Whether a path is the item or inside it.
fn is_within(path: &str, item: &str) -> bool {
    words(item).zip(words(path)).filter(|(a, b)| a == b).count() == words(item).count()
}

#[test]
fn the_coordinator_does_not_know_the_sdk() {
    let mut faults = Faults::new("only src/cli/, tests and examples use tercet_sdk");
    for source in &sources() {
        if !source.path.starts_with("src/") || source.path.starts_with("src/cli/") {
            continue;
        }
        for (line, _) in source.shipped_lines_with("tercet_sdk") {
            faults.add(source, line, "tercet_sdk");
        }
    }
    faults.none();
}

#[test]
fn the_core_depends_on_thiserror_alone() {
    let manifest = read("core/Cargo.toml");
    let dependencies: Vec<&str> = manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split(['.', ' ', '=']).next().unwrap_or(line))
        .collect();
    assert_eq!(
        dependencies,
        ["thiserror"],
        "core/Cargo.toml: [dependencies]"
    );
}

#[test]
fn the_core_has_no_clock_no_chance_and_no_outside() {
    let mut faults = Faults::new("core/ is pure: time and chance come in as arguments");
    for source in &sources() {
        if !source.path.starts_with("core/src/") {
            continue;
        }
        for word in FORBIDDEN_IN_CORE {
            for (line, _) in source.shipped_lines_with(word) {
                faults.add(source, line, word);
            }
        }
    }
    faults.none();
}

#[test]
fn only_a_store_acknowledges_that_a_step_is_durable() {
    let mut faults =
        Faults::new("effects open against the store's receipt, so only src/store/ may write one");
    for source in &sources() {
        if source.path.starts_with("src/store/") || source.is_test() {
            continue;
        }
        for (line, text) in source.shipped_lines() {
            if text.contains("Receipt::acknowledge") {
                faults.add(source, line, "Receipt::acknowledge");
            }
        }
    }
    faults.none();
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_ignored() {
    let mut faults = Faults::new("finish it, or leave it out");
    for source in &sources() {
        for (line, text) in source.lines() {
            for unfinished in ["todo!", "unimplemented!", "#[ignore", "#![ignore"] {
                if text.contains(unfinished) {
                    faults.add(source, line, unfinished);
                }
            }
        }
    }
    faults.none();
}

#[test]
fn a_file_holds_one_idea_and_ends_before_it_gets_long() {
    let mut faults = Faults::new(&format!(
        "at most {FILE_LINES_MAX} lines before the tests: split it by idea"
    ));
    for source in &sources() {
        let lines = source.shipped_lines().count();
        if !source.is_test() && lines > FILE_LINES_MAX {
            faults.add(source, lines, &format!("{lines} lines"));
        }
    }
    faults.none();
}

#[test]
fn the_table_of_requirements_lists_what_is_owed() {
    let listed: Vec<String> = requirements().into_iter().map(|row| row.id).collect();
    let owed: Vec<String> = REQUIREMENTS.iter().map(|n| format!("R{n}")).collect();
    assert_eq!(listed, owed, "docs/requirements.md: the first column");
}

#[test]
fn every_requirement_names_a_test() {
    let mut unshown = String::new();
    for row in requirements() {
        if row.tests().next().is_none() {
            let _ = writeln!(unshown, "docs/requirements.md:{}: {}", row.line, row.id);
        }
    }
    assert!(
        unshown.is_empty(),
        "a promise that no test shows (write `path::function`):\n{unshown}"
    );
}

#[test]
fn every_test_named_for_a_requirement_exists() {
    let mut missing = String::new();
    for row in requirements() {
        for name in row.tests() {
            if !test_exists(name) {
                let _ = writeln!(
                    missing,
                    "docs/requirements.md:{}: {} names `{name}`",
                    row.line, row.id
                );
            }
        }
    }
    assert!(
        missing.is_empty(),
        "no such test (write `path::function`):\n{missing}"
    );
}

/// What a rule found, each as file:line.
struct Faults {
    rule: String,
    found: String,
}

impl Faults {
    fn new(rule: &str) -> Self {
        Self {
            rule: rule.to_owned(),
            found: String::new(),
        }
    }

    fn add(&mut self, source: &Source, line: usize, what: &str) {
        let _ = writeln!(self.found, "{}:{line}: {}", source.path, what.trim());
    }

    fn none(self) {
        assert!(self.found.is_empty(), "{}\n{}", self.rule, self.found);
    }
}

/// One row of the table of requirements.
struct Requirement {
    line: usize,
    id: String,
    tests: String,
}

impl Requirement {
    /// What stands between backticks in the last column.
    fn tests(&self) -> impl Iterator<Item = &str> {
        self.tests.split('`').skip(1).step_by(2)
    }
}

fn requirements() -> Vec<Requirement> {
    read("docs/requirements.md")
        .lines()
        .enumerate()
        .filter(|(_, text)| {
            text.starts_with("| R") && text[3..].starts_with(|c: char| c.is_ascii_digit())
        })
        .map(|(index, text)| {
            let cells: Vec<&str> = text.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(
                cells.len(),
                3,
                "docs/requirements.md:{}: three columns",
                index + 1
            );
            Requirement {
                line: index + 1,
                id: cells[0].to_owned(),
                tests: cells[2].to_owned(),
            }
        })
        .collect()
}

/// Whether `path::function` (modules or classes between them are fine) is there, in Rust or Python.
fn test_exists(name: &str) -> bool {
    let Some((path, inside)) = name.split_once("::") else {
        return false;
    };
    let function = inside.rsplit("::").next().unwrap_or(inside);
    let Ok(text) = fs::read_to_string(root().join(path)) else {
        return false;
    };
    text.contains(&format!("fn {function}(")) || text.contains(&format!("def {function}("))
}
