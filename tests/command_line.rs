//! The command line as its users meet it: the real binary, its words and its exit codes.

mod program;

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, process::Stdio};

use program::{Coordinator, order, participant, run, tercet};
use serde_json::Value;
use tempfile::TempDir;

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn sled(directory: &TempDir) -> String {
    format!("sled:{}", directory.path().join("data").display())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_version_names_the_program_and_the_stores_format() {
    let said = run(&["--version"]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(said.out, format!("tercet {version} (store format 3)\n"));
    assert_eq!(said.code, 0);
}

#[test]
fn a_mistyped_noun_or_flag_is_an_error_that_suggests_the_right_one() {
    for (arguments, suggestion) in [
        (vec!["sreve"], "'serve'"),
        (vec!["tx", "sumbit"], "'submit'"),
        (vec!["serve", "--lisen", "127.0.0.1:1"], "'--listen'"),
    ] {
        let said = run(&arguments);
        assert_eq!(said.code, 1, "2 would be FAILED: {}", said.err);
        assert!(said.err.contains(suggestion), "{}", said.err);
    }
}

#[test]
fn a_mistyped_key_is_named_with_its_line_and_the_right_one() {
    let directory = directory();
    let file = directory.path().join("tercet.toml");
    fs::write(&file, "[limits]\nbranchs = 3\n").expect("it is written");
    let file = file.to_str().expect("text");
    for command in [&["config", "check"][..], &["serve"]] {
        let said = run(&[command, &["--config", file]].concat());
        assert_eq!(said.code, 1);
        let expected = format!(
            "error: {file}:2: no setting is called limits.branchs\n  did you mean limits.branches?\n"
        );
        assert_eq!(said.err, expected);
    }
}

#[test]
fn a_value_that_cannot_be_used_is_an_error_with_its_place_and_its_form() {
    for (arguments, words) in [
        (
            vec!["--participant", "inventory=127.0.0.1:9"],
            ["flag --participant", "http://HOST:PORT"],
        ),
        (
            vec!["--participant", "inventory"],
            ["flag --participant", "NAME=URL"],
        ),
        (
            vec!["--store", "rocks:/x"],
            ["flag --store", "sled:DIRECTORY"],
        ),
        (
            vec!["--listen", "7070"],
            ["flag --listen", "127.0.0.1:7070"],
        ),
        (vec!["--set", "drain=5"], ["flag --set drain", "30s"]),
        (vec!["--set", "drain"], ["--set \"drain\"", "KEY=VALUE"]),
    ] {
        let said = run(&[vec!["config", "check"], arguments].concat());
        assert_eq!(said.code, 1);
        for word in words {
            assert!(said.err.contains(word), "{word}: {}", said.err);
        }
    }
}

#[test]
fn config_show_tells_where_each_value_came_from() {
    let directory = directory();
    let file = directory.path().join("tercet.toml");
    fs::write(
        &file,
        "retention = \"1h\"\n[participants.inventory]\nendpoints = [\"http://a:1\"]\n",
    )
    .expect("it is written");
    let file = file.to_str().expect("text");
    let arguments = [
        "config",
        "show",
        "--config",
        file,
        "--set",
        "limits.branches=3",
    ];
    let output = tercet()
        .args(arguments)
        .args(["--output", "json"])
        .env("TERCET_DRAIN", "2s")
        .output()
        .expect("it starts");
    let shown = json(&String::from_utf8_lossy(&output.stdout));
    let settings = shown["settings"].as_array().expect("a list");
    for (key, value, origin) in [
        ("listen", "127.0.0.1:7070", "default".to_owned()),
        ("retention", "1h", format!("{file}:1")),
        (
            "participants.inventory.endpoints",
            "http://a:1",
            format!("{file}:3"),
        ),
        ("drain", "2s", "environment TERCET_DRAIN".into()),
        ("limits.branches", "3", "flag --set limits.branches".into()),
    ] {
        let it = settings.iter().find(|it| it["key"] == key).expect(key);
        assert_eq!(
            (&it["value"], &it["origin"]),
            (&value.into(), &origin.into())
        );
    }
    let table = run(&arguments).out;
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = run(&["completions", shell]);
        assert_eq!(said.code, 0);
        assert!(said.out.contains("tercet"), "{shell}");
    }
}

#[test]
fn a_coordinator_that_is_not_there_is_named_with_what_to_do() {
    // Bound, so that nobody else takes the port, but not listening.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", taken.local_addr().expect("it is bound"));
    drop(taken);
    let said = run(&["tx", "get", "order-1", "--server", &url]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(&url) && said.err.contains("`tercet serve`"),
        "{}",
        said.err
    );

    let said = run(&["tx", "get", "order-1", "--server", "127.0.0.1:7070"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("http://host:port"), "{}", said.err);
}

#[test]
fn a_request_with_a_mistake_is_refused_before_anybody_is_asked() {
    let submit = |json: &str| {
        let mut child = tercet()
            .args([
                "tx",
                "submit",
                "--file",
                "-",
                "--server",
                "http://127.0.0.1:1",
            ])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(json.as_bytes())
            .expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = submit("{\"transactionId\": \"order-1\",\n\"brnches\": []}");
    assert!(
        said.contains("brnches") && said.contains("line 2"),
        "{said}"
    );
    let said = submit("{}");
    assert!(
        said.contains("no id") && said.contains("--assign-id"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_ends_with_0_2_or_3_for_the_three_outcomes() {
    let directory = directory();
    let inventory = format!("inventory={}", participant("inventory").await);
    let coordinator = Coordinator::start(
        &sled(&directory),
        &[
            "--participant",
            &inventory,
            "--participant",
            "away=http://127.0.0.1:1",
        ],
    );
    let submit = |id: &str, participant: &str, resource: &str| {
        let file = order(directory.path(), id, participant, resource);
        let said = run(&[
            "tx",
            "submit",
            "--file",
            &file,
            "--server",
            &coordinator.url,
            "--output",
            "json",
        ]);
        (said.code, json(&said.out))
    };

    let (code, success) = submit("order-1", "inventory", "reserve");
    assert_eq!(
        (code, &success["outcome"]),
        (0, &"OUTCOME_SUCCESS".into()),
        "{success}"
    );
    let (code, failed) = submit("order-2", "inventory", "refuse");
    assert_eq!(
        (code, &failed["outcome"]),
        (2, &"OUTCOME_FAILED".into()),
        "{failed}"
    );
    assert_eq!(failed["failure"]["reason"], "OUT_OF_STOCK");
    let (code, processing) = submit("order-3", "away", "reserve");
    assert_eq!(
        (code, &processing["outcome"]),
        (3, &"OUTCOME_PROCESSING".into()),
        "{processing}"
    );

    // The same id with other content: an error, whatever has become of the first.
    let (_, _) = submit("order-1", "inventory", "reserve");
    let file = order(directory.path(), "order-1", "inventory", "refuse");
    let said = run(&[
        "tx",
        "submit",
        "--file",
        &file,
        "--server",
        &coordinator.url,
    ]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("TRANSACTION_ID_REUSED"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_shown_listed_counted_and_followed() {
    let directory = directory();
    let inventory = format!("inventory={}", participant("inventory").await);
    let coordinator = Coordinator::start(&sled(&directory), &["--participant", &inventory]);
    let tx =
        |arguments: &[&str]| run(&[&["tx"], arguments, &["--server", &coordinator.url]].concat());
    for (id, resource) in [("order-1", "reserve"), ("order-2", "refuse")] {
        tx(&[
            "submit",
            "--file",
            &order(directory.path(), id, "inventory", resource),
        ]);
    }

    let got = tx(&["get", "order-1"]);
    assert_eq!(got.code, 0);
    assert!(
        got.out
            .starts_with("transaction   order-1\noutcome       SUCCESS\n"),
        "{}",
        got.out
    );
    assert!(
        got.out
            .contains("\nb1      inventory    reserve   CONFIRMED  1"),
        "{}",
        got.out
    );
    assert_eq!(tx(&["wait", "order-2"]).code, 2);
    let unknown = tx(&["get", "order-9"]);
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.err.starts_with("error: TRANSACTION_NOT_FOUND: "),
        "{}",
        unknown.err
    );

    let list = tx(&["list"]).out;
    let ids: Vec<_> = list
        .lines()
        .filter_map(|line| line.split("  ").next())
        .collect();
    assert_eq!(ids, ["ID", "order-2", "order-1"]);
    assert!(
        list.lines().all(|line| line.chars().count() <= 100),
        "{list}"
    );
    let page = json(&tx(&["list", "--page-size", "1", "--output", "json"]).out);
    assert_eq!(page["transactions"][0]["transactionId"], "order-2");
    assert_ne!(page["nextPageToken"], "");
    assert_eq!(tx(&["count", "--filter", "outcome=FAILED"]).out, "1\n");
    let wrong = tx(&["count", "--filter", "colour=red"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("FILTER_INVALID"), "{}", wrong.err);

    let events = tx(&["events", "order-1"]).out;
    assert!(events.contains("b1 TRY #1 → TRIED"), "{events}");
    let watched = tx(&["watch", "order-1", "--output", "json"]);
    assert_eq!(watched.code, 0);
    let first = json(watched.out.lines().next().expect("a line"));
    assert_eq!(first["snapshot"]["state"], "TRANSACTION_STATE_CONFIRMED");
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_only_starts_nothing() {
    let directory = directory();
    let inventory = format!("inventory={}", participant("inventory").await);
    let coordinator = Coordinator::start(&sled(&directory), &["--participant", &inventory]);
    let ask = |participant: &str| {
        let file = order(directory.path(), "order-1", participant, "reserve");
        run(&[
            "tx",
            "submit",
            "--validate-only",
            "--file",
            &file,
            "--server",
            &coordinator.url,
        ])
    };
    assert_eq!(ask("inventory").code, 0);
    let refused = ask("nobody");
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("PARTICIPANT_NOT_FOUND"),
        "{}",
        refused.err
    );
    assert_eq!(
        run(&["tx", "count", "--server", &coordinator.url]).out,
        "0\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reads_the_participants_again_and_a_mistake_keeps_the_old_ones() {
    let directory = directory();
    let file = directory.path().join("tercet.toml");
    let write = |text: String| fs::write(&file, text).expect("it is written");
    write(String::new());
    let config = file.to_str().expect("text");
    let coordinator = Coordinator::start(&sled(&directory), &["--config", config]);
    let url = coordinator.url.clone();
    let submit = |id: &str| {
        let file = order(directory.path(), id, "inventory", "reserve");
        run(&["tx", "submit", "--file", &file, "--server", &url]).code
    };
    assert_eq!(submit("order-1"), 1);

    let inventory = participant("inventory").await;
    write(format!(
        "[participants.inventory]\nendpoints = [\"{inventory}\"]\n"
    ));
    coordinator.signal("-HUP");
    coordinator.log_line_with("participants read again");
    assert_eq!(submit("order-2"), 0);

    write("[participants.inventory]\nendpoint = []\n".into());
    coordinator.signal("-HUP");
    let line = coordinator.log_line_with("participants stay as they were");
    assert!(line.contains("participants.inventory.endpoints"), "{line}");
    assert_eq!(submit("order-3"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_transactions_id_on_a_line_about_it() {
    let directory = directory();
    let arguments = [
        "--participant",
        "away=http://127.0.0.1:1",
        "--log",
        "tercet=debug",
    ];
    let coordinator = Coordinator::start(&sled(&directory), &arguments);
    let file = order(directory.path(), "order-1", "away", "reserve");
    run(&[
        "tx",
        "submit",
        "--file",
        &file,
        "--server",
        &coordinator.url,
    ]);
    let line = json(&coordinator.log_line_with("order-1"));
    assert_eq!(line["spans"][0]["id"], "order-1", "{line}");
}

#[test]
fn a_second_coordinator_on_the_same_directory_is_refused() {
    let directory = directory();
    let _first = Coordinator::start(&sled(&directory), &[]);
    let said = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--store",
        &sled(&directory),
    ]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("another coordinator is using"),
        "{}",
        said.err
    );
}

#[test]
fn an_address_that_is_taken_is_named() {
    let (one, other) = (directory(), directory());
    let first = Coordinator::start(&sled(&one), &[]);
    let address = first.url.trim_start_matches("http://");
    let said = run(&["serve", "--listen", address, "--store", &sled(&other)]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(address) && said.err.contains("--listen"),
        "{}",
        said.err
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let directory = directory();
    // A file where the directory should be: even root can't make one there.
    let file = directory.path().join("file");
    fs::write(&file, "").expect("it is written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("it is ours");
    let store = format!("sled:{}/data", file.display());
    let said = run(&["serve", "--listen", "127.0.0.1:0", "--store", &store]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(file.to_str().expect("text")),
        "{}",
        said.err
    );
}

#[test]
fn sigterm_and_sigint_end_it_with_0() {
    for name in ["-TERM", "-INT"] {
        let directory = directory();
        let mut coordinator = Coordinator::start(&sled(&directory), &[]);
        coordinator.signal(name);
        assert_eq!(coordinator.wait().code(), Some(0), "{name}");
    }
}

#[test]
fn a_store_in_memory_is_loudly_warned_of() {
    let coordinator = Coordinator::start("memory", &[]);
    coordinator.log_line_with("ALL ARE LOST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_verified_exported_and_imported() {
    let (from, to) = (directory(), directory());
    let inventory = format!("inventory={}", participant("inventory").await);
    let mut coordinator = Coordinator::start(&sled(&from), &["--participant", &inventory]);
    let file = order(from.path(), "order-1", "inventory", "reserve");
    run(&[
        "tx",
        "submit",
        "--file",
        &file,
        "--server",
        &coordinator.url,
    ]);
    let busy = run(&["store", "verify", "--store", &sled(&from)]);
    assert_eq!(busy.code, 1, "a coordinator is using it");
    coordinator.signal("-TERM");
    coordinator.wait();

    let verified = run(&[
        "store",
        "verify",
        "--store",
        &sled(&from),
        "--output",
        "json",
    ]);
    assert_eq!(verified.code, 0, "{}", verified.err);
    let (sound, records) = (
        json(&verified.out)["sound"].clone(),
        json(&verified.out)["records"].clone(),
    );
    assert_eq!((sound, records), (true.into(), 1.into()));
    let export = from.path().join("export");
    let export = export.to_str().expect("text");
    assert_eq!(
        run(&["store", "export", "--store", &sled(&from), "--file", export]).code,
        0
    );
    let again = run(&["store", "export", "--store", &sled(&from), "--file", export]);
    assert_eq!(again.code, 1, "it never overwrites");
    assert_eq!(
        run(&["store", "import", "--store", &sled(&to), "--file", export]).code,
        0
    );

    let coordinator = Coordinator::start(&sled(&to), &[]);
    let got = run(&["tx", "get", "order-1", "--server", &coordinator.url]);
    assert_eq!(got.code, 0, "{}", got.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn participant_check_prints_what_holds_and_ends_with_1_when_something_does_not() {
    let url = participant("inventory").await;
    let check = |resource: &str, payload: &str| {
        run(&[
            "participant",
            "check",
            &url,
            "--resource",
            resource,
            "--payload",
            payload,
        ])
    };
    let empty = directory();
    let empty = empty.path().join("empty");
    fs::write(&empty, "").expect("it is written");
    let empty = empty.to_str().expect("text");
    let holds = run(&[
        "participant",
        "check",
        &url,
        "--resource",
        "reserve",
        "--payload-file",
        empty,
    ]);
    assert_eq!(holds.code, 0, "{}{}", holds.out, holds.err);
    // A resource whose Try never succeeds can't be put to the test.
    let refused = check("refuse", "{}");
    assert_eq!(refused.code, 1);
    assert!(refused.out.contains("inconclusive"), "{}", refused.out);
    let wrong = check("reserve", "{sku: tea}");
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("--payload is no JSON"), "{}", wrong.err);
    let nobody = run(&[
        "participant",
        "check",
        "127.0.0.1:1",
        "--resource",
        "r",
        "--payload",
        "{}",
    ]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("http://127.0.0.1:1"), "{}", nobody.err);
}
