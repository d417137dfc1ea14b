use std::io::Write as _;

use super::*;

fn flag(key: &str, value: &str) -> FlagValue {
    FlagValue {
        key: key.into(),
        value: value.into(),
        flag: format!("--{key}"),
    }
}

fn file(text: &str) -> (tempfile::NamedTempFile, Sources) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it is written");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    };
    (file, sources)
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

/// What is wrong, as it is shown, without the file's path.
fn complaint(sources: &Sources) -> String {
    let text = sources.load().expect_err("it is refused").to_string();
    match &sources.file {
        Some(path) => text.replace(&path.display().to_string(), "FILE"),
        None => text,
    }
}

#[test]
fn the_file_of_this_repository_sets_every_key_to_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tercet.toml");
    let sources = Sources {
        file: Some(path),
        ..Sources::default()
    };
    let config = sources.load().expect("it is valid");
    let defaults = Config::defaults();
    assert_eq!(config.shown().len(), defaults.shown().len());
    for (set, default) in config.shown().iter().zip(defaults.shown()) {
        assert_eq!((&set.key, &set.value), (&default.key, &default.value));
        assert!(
            matches!(set.origin, Origin::File { .. }),
            "{} is missing",
            set.key
        );
    }
}

#[test]
fn the_examples_in_that_file_are_valid_too() {
    let text = include_str!("../../tercet.toml");
    let (_, example) = text
        .split_once("# [participants.")
        .expect("there is an example");
    let example = format!("# [participants.{example}").replace("# ", "");
    let (_file, sources) = file(&example);
    let config = sources.load().expect("it is valid");
    assert!(!config.participants.is_empty());
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let (_file, mut sources) = file("drain = \"1s\"\nretention = \"1h\"\n[limits]\nbranches = 3\n");
    sources.environment = vec![
        variable("TERCET_DRAIN", "2s"),
        variable("TERCET_LIMITS_BRANCHES", "4"),
    ];
    sources.flags = vec![flag("drain", "3s")];
    let config = sources.load().expect("it is valid");
    assert_eq!(*config.drain, Duration::from_secs(3));
    assert_eq!(config.drain.origin, Origin::Flag("--drain".into()));
    assert_eq!(*config.limits.branches, 4);
    let origin = Origin::Environment("TERCET_LIMITS_BRANCHES".into());
    assert_eq!(config.limits.branches.origin, origin);
    assert!(matches!(
        config.retention.origin,
        Origin::File { line: 2, .. }
    ));
    assert_eq!(config.listen.origin, Origin::Default);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    let (_file, sources) = file("drain = \"1s\"\n\n[limits]\nbranchs = 3\n");
    assert_eq!(
        complaint(&sources),
        "FILE:4: no setting is called limits.branchs\n  did you mean limits.branches?"
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    let (_file, sources) = file("payload_bytes = 3\n");
    assert_eq!(
        complaint(&sources),
        "FILE:1: no setting is called payload_bytes\n  did you mean limits.payload_bytes?"
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let (_file, mut sources) = file("listen = 7070\ndrain = \"5\"\n");
    sources.flags = vec![flag("store", "rocksdb:/tmp")];
    let faults = sources.load().expect_err("it is refused").faults;
    let problems: Vec<_> = faults.iter().map(|it| it.problem.as_str()).collect();
    assert_eq!(
        problems,
        [
            "listen can't be \"7070\"",
            "store can't be \"rocksdb:/tmp\"",
            "drain can't be \"5\"",
        ]
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let (_file, sources) = file("listen = \"127.0.0.1:1\"\ndrain = = 3\n");
    assert!(complaint(&sources).starts_with("FILE:2: it is not valid TOML: "));
}

#[test]
fn a_mistyped_variable_is_a_mistake_but_a_stranger_is_not() {
    let mut sources = Sources {
        environment: vec![
            variable("TERCET_PORT_7070_TCP_ADDR", "10.0.0.1"),
            variable("TERCET_SERVER", "http://127.0.0.1:7070"),
        ],
        ..Sources::default()
    };
    sources.load().expect("it is valid");
    sources
        .environment
        .push(variable("TERCET_LISTN", "127.0.0.1:1"));
    assert_eq!(
        complaint(&sources),
        "environment TERCET_LISTN: no setting is called TERCET_LISTN\n  did you mean TERCET_LISTEN?"
    );
}

#[test]
fn a_participant_of_a_flag_replaces_the_files_endpoints_and_keeps_its_timeout() {
    let (_file, mut sources) = file(
        "[participants.inventory]\nendpoints = [\"http://a:1\", \"http://b:1\"]\ncall_timeout = \"9s\"\n\
         [participants.payment]\nendpoints = [\"http://c:1\"]\n",
    );
    sources.flags = vec![flag("participant", "inventory=http://d:1,http://e:1")];
    let config = sources.load().expect("it is valid");
    let inventory = &config.participants[&ParticipantName::parse("inventory").expect("a name")];
    assert_eq!(*inventory.endpoints, ["http://d:1", "http://e:1"]);
    assert_eq!(*inventory.call_timeout, Duration::from_secs(9));
    let payment = &config.participants[&ParticipantName::parse("payment").expect("a name")];
    assert_eq!(*payment.call_timeout, *config.call_timeout);
}

#[test]
fn participants_come_from_the_environment_too() {
    let sources = Sources {
        environment: vec![variable(
            "TERCET_PARTICIPANTS",
            "a=http://h:1,http://h:2 b=http://h:3",
        )],
        ..Sources::default()
    };
    let config = sources.load().expect("it is valid");
    let endpoints: Vec<_> = config
        .participants
        .values()
        .map(|it| it.endpoints.len())
        .collect();
    assert_eq!(endpoints, [2, 1]);
}

#[test]
fn a_participant_may_open_sessions_instead_of_having_endpoints_or_beside_them() {
    let (_file, mut sources) = file(
        "[participants.a]\nsessions = true\n\
         [participants.b]\nendpoints = [\"http://h:1\"]\n\
         [participants.c]\nendpoints = [\"http://h:2\"]\nsessions = true\n",
    );
    sources.environment = vec![
        variable("TERCET_PARTICIPANTS", "d=sessions e=http://h:3"),
        variable("TERCET_PARTICIPANTS_E_SESSIONS", "true"),
    ];
    sources.flags = vec![flag("participant", "f=sessions,http://h:4")];
    let config = sources.load().expect("it is valid");
    let found: Vec<_> = config
        .participants
        .iter()
        .map(|(name, it)| (name.as_str(), *it.sessions, it.endpoints.len()))
        .collect();
    let expected = [
        ("a", true, 0),
        ("b", false, 1),
        ("c", true, 1),
        ("d", true, 0),
        ("e", true, 1),
        ("f", true, 1),
    ];
    assert_eq!(found, expected);

    let (_file, sources) = file("[participants.a]\nsessions = \"yes\"\n");
    assert!(complaint(&sources).contains("write true or false"));
}

#[test]
fn a_participant_without_a_valid_name_or_endpoint_is_refused() {
    for (text, problem) in [
        ("inventory", "participant can't be \"inventory\""),
        (
            "Inventory=http://a:1",
            "\"Inventory\" can't be a participant's name",
        ),
        ("inventory=", "participant inventory has no endpoints"),
        (
            "inventory=a:1",
            "participants.inventory.endpoints can't be \"a:1\"",
        ),
        (
            "inventory=https://a:1",
            "participants.inventory.endpoints can't be \"https://a:1\"",
        ),
        (
            "inventory=http://a:1/x",
            "participants.inventory.endpoints can't be \"http://a:1/x\"",
        ),
    ] {
        let sources = Sources {
            flags: vec![flag("participant", text)],
            ..Sources::default()
        };
        let complaint = complaint(&sources);
        assert!(complaint.contains(problem), "{text}: {complaint}");
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let sources = Sources {
        flags: vec![flag("limits.timeout_max", "10s")],
        ..Sources::default()
    };
    assert_eq!(
        complaint(&sources),
        "flag --limits.timeout_max: limits.timeout_default is more than limits.timeout_max\n  \
         lower limits.timeout_default (default) or raise limits.timeout_max (flag --limits.timeout_max)"
    );
}

#[test]
fn rust_log_counts_unless_tercet_log_is_set() {
    let mut sources = Sources {
        environment: vec![variable("RUST_LOG", "debug")],
        ..Sources::default()
    };
    assert_eq!(*sources.load().expect("it is valid").log, "debug");
    sources.environment.push(variable("TERCET_LOG", "warn"));
    assert_eq!(*sources.load().expect("it is valid").log, "warn");
}

#[test]
fn white_space_in_a_log_filter_changes_nothing() {
    for (text, meant) in [
        (" info , tercet=debug\t", "info,tercet=debug"),
        ("\tA\u{a1}=", "A\u{a1}="),
    ] {
        let (_file, sources) = file(&format!("log = {text:?}"));
        assert_eq!(*sources.load().expect("it is valid").log, meant);
    }
}
