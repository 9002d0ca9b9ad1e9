//! Tests of settings files. That a flag wins over the environment is shown with a real process, in `tests`.

use super::*;

fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    (folder, path)
}

fn router(text: &str, more: &[&str]) -> Result<crate::args::RouterArgs, String> {
    let (_folder, path) = file(text);
    let line = ["conveyorctl", "router", "--config", &path].into_iter().chain(more.iter().copied());
    let line: Vec<OsString> = line.map(OsString::from).collect();
    match resolve(&line) {
        Ok(Args { command: crate::args::Command::Router(args), .. }) => Ok(args),
        Ok(_) => panic!("another verb"),
        Err(Refused::Usage(error)) => Err(error.to_string()),
        Err(Refused::Settings(Failure::Diagnostics(all))) => {
            Err(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
        Err(Refused::Settings(failure)) => Err(format!("{failure:?}")),
    }
}

#[test]
fn a_file_gives_what_must_be_there_and_a_flag_wins() {
    let text = "nodeId: 2\nstore: s\npeers: {1: 'a:1', 2: 'b:2'}\nhttpPort: 81\nlease: 5s\ninsecure: true\n";
    let args = router(text, &["--http-port", "82"]).expect("settings");
    assert_eq!((args.node_id, args.http_port, args.insecure), (2, 82, true));
    assert_eq!(args.peers, [(1, "a:1".to_owned()), (2, "b:2".to_owned())]);
    assert_eq!(args.lease, std::time::Duration::from_secs(5));
    let args = router("nodeId: 2\nstore: s\npeers: 1=a:1,2=b:2\n", &["--peers", "2=c:3"]).expect("settings");
    assert_eq!(args.peers, [(2, "c:3".to_owned())]);
    let none = router("# nothing\n", &["--node-id", "1", "--store", "s"]).expect("settings");
    assert_eq!(none.http_port, 8080);
}

#[test]
fn what_a_file_gets_wrong_is_said_with_its_place() {
    let text = "nodeid: 2\nhttpPort: 99999\nstore: [a, b]\ninsecure: perhaps\nconfig: other.yaml\n";
    let said = router(text, &[]).expect_err("wrong");
    for part in [
        "settings.yaml:1:1",
        "did you mean `nodeId`?",
        "settings.yaml:2:11",
        "99999 is not in 0..=65535",
        "`store` takes one value",
        "`insecure` is true or false",
        "there is no setting `config` here",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let missing = router("httpPort: 1\n", &[]).expect_err("no store");
    assert!(missing.contains("--store") && missing.contains("--node-id"), "{missing}");
    let line = ["conveyorctl", "router", "--config", "/nowhere.yaml"].map(OsString::from);
    assert!(
        matches!(resolve(&line), Err(Refused::Settings(Failure::Error(e))) if e.code() == "settings-file")
    );
}

/// `UPDATE_EXPECT=1` writes the table.
#[test]
fn the_documented_table_is_that_of_the_code() {
    const START: &str = "<!-- made from the code -->\n";
    const END: &str = "<!-- end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating/configure.md");
    let text = std::fs::read_to_string(&path).expect("the page");
    let (before, rest) = text.split_once(START).expect("a start");
    let (written, after) = rest.split_once(END).expect("an end");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, format!("{before}{START}{}{END}{after}", table())).expect("the page");
        return;
    }
    assert_eq!(written, table(), "docs/operating/configure.md differs from the code");
}

#[test]
fn every_option_of_the_processes_is_a_setting() {
    let command = Args::command();
    for verb in ["router", "sidecar"] {
        let of = command.find_subcommand(verb).expect("a verb");
        let without: Vec<_> = of.get_arguments().filter(|o| o.get_env().is_none()).map(Arg::get_id).collect();
        assert!(without.iter().all(|id| *id == "help"), "{verb}: {without:?} have no variable");
    }
}
