//! The file source, the file sink, file lookups and dead letters against real servers of object stores.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use conveyor_tests::bounded::{self, Outcome};
use conveyor_tests::servers::{
    self, azure, azure::Azure, gcs::Gcs, https::Https, s3, s3::S3, unreliable::Unreliable,
};
use conveyor_tests::{binary, oracle};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);

/// Names of the environment by which a machine's own clouds could come into a test.
const CLOUDS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

fn run_with(args: &[&str], folder: &Path, reach: impl FnOnce(&mut Command)) -> Outcome {
    let mut command = binary::command().expect("conveyorctl builds");
    for (name, _) in std::env::vars() {
        if CLOUDS.iter().any(|cloud| name.starts_with(cloud)) {
            command.env_remove(name);
        }
    }
    command.args(args).arg("--data-dir").arg(folder.join("data"));
    reach(&mut command);
    bounded::run(&mut command, PATIENCE).expect("conveyorctl ends by itself")
}

fn run(manifest: &Path, reach: impl FnOnce(&mut Command)) -> Outcome {
    let folder = manifest.parent().expect("a folder");
    run_with(&["run", "-o", "json", "-f", manifest.to_str().expect("text")], folder, reach)
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    std::fs::write(&path, text).expect("a file can be written");
    path
}

/// Orders in two folders, of which a wildcard names one; some of them do not parse, some name no customer.
fn input(folder: &Path) {
    for part in 0..3 {
        let mut text = String::new();
        for n in 0..2000 {
            let id = part * 2000 + n;
            let amount = if id % 100 == 7 { "\"much\"".to_owned() } else { (id % 500).to_string() };
            text.push_str(&format!("{{\"id\":{id},\"customer\":{},\"amount\":{amount}}}\n", id % 53));
        }
        write(folder, &format!("in/day=0{part}/orders {part}.ndjson"), &text);
    }
    write(folder, "in/day=00/notes.txt", "not an order\n");
    write(folder, "in/_conveyor/day=00/orders 9.ndjson", "never read\n");
    let table: String = (0..50).map(|n| format!("{n},name-{n}\n")).collect();
    write(folder, "in/customers.csv", &format!("customer,name\n{table}"));
}

/// Reads below `from`, writes below `to`; `settings` are those of the store.
fn manifest(from: &str, to: &str, settings: &str) -> String {
    format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: stores}}\nspec:\n  mode: job\n  parallelism: 2\n  \
         source:\n    name: orders\n    file: {{path: '{from}/in/day=*/orders*.ndjson', rangeBytes: 16KiB{settings}}}\n    \
         schema: {{amount: int64}}\n  steps:\n    - name: enrich\n      lookup: {{table: customers, on: [customer], onMiss: dlq}}\n  \
         sinks:\n    - name: single\n      when: amount >= 250\n      file: {{path: '{to}/single/all.ndjson'{settings}}}\n    \
         - name: folders\n      when: amount < 250\n      file: {{path: '{to}/folders', format: parquet, partitionBy: [customer]{settings}}}\n  \
         dlq: {{path: '{to}/dlq', maxRatio: 1.0}}\n---\napiVersion: etl.router/v1\nkind: Lookup\n\
         metadata: {{name: customers}}\nspec: {{file: {{path: '{from}/in/customers.csv'{settings}}}}}\n"
    )
}

/// Local files into a local folder: what every store must come to.
fn undisturbed() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    input(folder.path());
    let place = folder.path().display().to_string();
    let manifest = write(folder.path(), "local.yaml", &manifest(&place, &format!("{place}/out"), ""));
    let done = run(&manifest, |_| {});
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    folder
}

/// A pipeline that copies what a store has into a local folder, as it is.
fn fetch(from: &str, to: &Path, reach: impl Fn(&mut Command)) {
    let copy = |name: &str, path: &str, format: &str| {
        let text = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: {name}}}\nspec:\n  mode: job\n  source:\n    \
             file: {{path: '{from}/{path}', format: {format}}}\n  sink:\n    file: {{path: '{}/{name}', format: {format}}}\n",
            to.display()
        );
        let manifest = write(to, &format!("{name}.yaml"), &text);
        let done = run(&manifest, &reach);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
    };
    copy("single", "single/all.ndjson", "lines");
    copy("folders", "folders/**/*.parquet", "parquet");
    copy("dlq", "dlq/**/*.parquet", "parquet");
}

/// Runs the pipeline from and to a store, and compares what is there with the undisturbed run. Then once more, which must
/// change nothing.
fn round_trip(url: &str, settings: &str, reach: impl Fn(&mut Command)) {
    let expected = undisturbed();
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The input gets into the store by a pipeline too: names with blanks and `=` in them.
    upload(expected.path(), url, folder.path(), &reach);
    let manifest = write(folder.path(), "pipeline.yaml", &manifest(url, &format!("{url}/out"), settings));
    for round in 0..2 {
        let done = run(&manifest, &reach);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let fetched = tempfile::tempdir().expect("a temporary folder");
        fetch(&format!("{url}/out"), fetched.path(), &reach);
        oracle::judge("same_store.py", &[&expected.path().join("out"), fetched.path()])
            .unwrap_or_else(|e| panic!("run {round}: {e:#}"));
    }
}

/// Puts the input into a store: every file by a pipeline of its own that writes a single file.
fn upload(from: &Path, url: &str, folder: &Path, reach: impl Fn(&mut Command)) {
    let names =
        ["day=00/orders 0.ndjson", "day=01/orders 1.ndjson", "day=02/orders 2.ndjson", "day=00/notes.txt"];
    let mut text = String::new();
    for (number, name) in names.iter().chain(&["customers.csv"]).enumerate() {
        // As lines whatever it is: not a byte changes.
        text.push_str(&format!(
            "---\napiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: put-{number}}}\nspec:\n  mode: job\n  source:\n    \
             file: {{path: '{}/in/{name}', format: lines}}\n  sink:\n    file: {{path: '{url}/in/{name}', format: lines}}\n",
            from.display()
        ));
    }
    let manifest = write(folder, "upload.yaml", &text);
    let done = run(&manifest, &reach);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn s3_by_the_environment() {
    let server = S3::start().expect("an S3 server");
    let bucket = server.bucket("flow").expect("a bucket");
    round_trip("s3://flow/some/prefix", "", |command| {
        server.reach(command);
    });
    assert!(bucket.join("some/prefix/out/single/all.ndjson").is_file(), "the objects lie in the bucket");
}

#[test]
fn azure_by_the_environment() {
    let server = Azure::start().expect("an Azure server");
    server.container("flow").expect("a container");
    round_trip("az://flow/some/prefix", "", |command| {
        server.reach(command);
    });
}

#[test]
fn google_cloud_storage_by_the_environment() {
    let server = Gcs::start().expect("a Google Cloud Storage server");
    server.bucket("flow").expect("a bucket");
    round_trip("gs://flow/some/prefix", "", |command| {
        server.reach(command);
    });
}

/// A pipeline that copies one CSV file to a folder.
fn copy(from: &str, source: &str, to: &str, sink: &str) -> String {
    format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: copy}}\nspec:\n  mode: job\n  source:\n    name: in\n    \
         file: {{path: '{from}'{source}}}\n    retry: {{maxRetries: 0}}\n  sink:\n    name: out\n    \
         file: {{path: '{to}', format: ndjson{sink}}}\n    retry: {{maxRetries: 0}}\n"
    )
}

#[test]
fn settings_and_secrets_reach_a_store_without_the_environment() {
    let (s3, azure) = (S3::start().expect("an S3 server"), Azure::start().expect("an Azure server"));
    let bucket = s3.bucket("flow").expect("a bucket");
    write(&bucket, "t.csv", "a,b\n1,x\n2,y\n");
    azure.container("flow").expect("a container");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = write(folder.path(), "s3.key", &format!("{}\n", s3::SECRET));
    let from_s3 = format!(
        ", endpoint: '{}', region: us-east-1, accessKeyId: {{secret: {{env: MY_KEY}}}}, secretAccessKey: {{secret: {{file: '{}'}}}}",
        s3.endpoint(),
        key.display()
    );
    let to_azure = format!(
        ", endpoint: '{}', accessKeyId: {{secret: {{env: MY_ACCOUNT}}}}, secretAccessKey: {{secret: {{env: MY_AZURE_KEY}}}}",
        azure.endpoint()
    );
    let text = copy("s3://flow/t.csv", &from_s3, "az://flow/out", &to_azure);
    let done = run(&write(folder.path(), "p.yaml", &text), |command| {
        command.env("MY_KEY", s3::KEY).env("MY_ACCOUNT", azure::ACCOUNT).env("MY_AZURE_KEY", azure::KEY);
    });
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let back = copy("az://flow/out/*.ndjson", "", &folder.path().join("back").display().to_string(), "");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let done = run(&write(folder.path(), "p.yaml", &back), |command| {
        azure.reach(command);
    });
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("\"rowsIn\":2") || done.stdout.contains("\"rowsIn\": 2"), "{}", done.stdout);
}

#[test]
fn refused_and_missing_is_said_without_secrets() {
    let server = S3::start().expect("an S3 server");
    let bucket = server.bucket("flow").expect("a bucket");
    write(&bucket, "t.csv", "a,b\n1,x\n");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out").display().to_string();
    let wrong = "wrong-s3cret-of-mine";
    let cases = [
        ("s3://flow/t.csv", wrong, "store-denied"),
        ("s3://flow/no.csv", s3::SECRET, "file-not-found"),
        ("s3://none/*.csv", s3::SECRET, "bucket-not-found"),
        ("s3://me:pass@flow/t.csv", s3::SECRET, "url-with-credentials"),
    ];
    for (url, secret, code) in cases {
        let manifest = write(folder.path(), "p.yaml", &copy(url, "", &out, ""));
        let done = run(&manifest, |command| {
            server.reach(command).env("AWS_SECRET_ACCESS_KEY", secret);
        });
        assert_eq!(done.code, Some(2), "{url}: {}", done.stderr);
        assert!(done.stderr.contains(code), "{url}: {}", done.stderr);
        for hidden in [secret, s3::KEY, "me:pass", "Signature=", "StringToSign"] {
            assert!(!done.stderr.contains(hidden), "{url}: {hidden} is shown: {}", done.stderr);
        }
        assert!(
            code == "url-with-credentials" || done.stderr.contains(url.trim_end_matches("/*.csv")),
            "{}",
            done.stderr
        );
    }
    let to_none = write(folder.path(), "q.yaml", &copy("s3://flow/t.csv", "", "s3://none/out", ""));
    let done = run(&to_none, |command| {
        server.reach(command);
    });
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("bucket-not-found"), "{}", done.stderr);
}

#[test]
fn a_server_that_is_ill_for_a_while_is_waited_for() {
    let server = S3::start().expect("an S3 server");
    let bucket = server.bucket("flow").expect("a bucket");
    write(&bucket, "t.csv", "a,b\n1,x\n2,y\n");
    // Ill when the file is first looked at, when it is read, and when the rows are written.
    for well in [0, 2, 4, 6, 8] {
        let between = Unreliable::start(server.address(), well, 3).expect("a proxy");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = copy("s3://flow/t.csv", "", &format!("s3://flow/out-{well}"), "");
        let done = run(&write(folder.path(), "p.yaml", &text), |command| {
            server.reach_at(command, &format!("http://{}", between.address));
        });
        assert_eq!(done.code, Some(0), "after {well}: {}", done.stderr);
        assert_eq!(between.refused(), 3, "after {well}");
        let files = std::fs::read_dir(bucket.join(format!("out-{well}"))).expect("an output folder");
        let files: Vec<_> = files.flatten().filter(|f| f.path().is_file()).collect();
        assert_eq!(files.len(), 1, "after {well}: {files:?}");
    }
}

#[test]
fn a_server_that_stays_away_ends_with_3_and_a_later_run_goes_on() {
    let server = S3::start().expect("an S3 server");
    let bucket = server.bucket("flow").expect("a bucket");
    write(&bucket, "t.csv", "a,b\n1,x\n2,y\n");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let short = ", retryTimeout: 300ms";
    let nobody = servers::free_address().expect("a free port");
    let text = copy("s3://flow/t.csv", short, "s3://flow/out", short);
    let manifest = write(folder.path(), "p.yaml", &text);
    let done = run(&manifest, |command| {
        server.reach_at(command, &format!("http://{nobody}"));
    });
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    for told in ["s3://flow/t.csv", "store-unavailable", "refused", "endpoint"] {
        assert!(done.stderr.contains(told), "{told} is not told: {}", done.stderr);
    }
    // It goes away in the middle: what was read cannot be written.
    let between = Unreliable::start(server.address(), 4, usize::MAX).expect("a proxy");
    let done = run(&manifest, |command| {
        server.reach_at(command, &format!("http://{}", between.address));
    });
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("503 Service Unavailable"), "{}", done.stderr);
    let done = run(&manifest, |command| {
        server.reach(command);
    });
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows: usize = std::fs::read_dir(bucket.join("out"))
        .expect("an output folder")
        .flatten()
        .filter(|f| f.path().is_file())
        .map(|f| std::fs::read_to_string(f.path()).expect("a file").lines().count())
        .sum();
    assert_eq!(rows, 2);
}

#[test]
fn https_files_are_read_in_ranges_from_a_server_that_is_trusted() {
    let expected = undisturbed();
    let server = Https::start(expected.path()).expect("an HTTPS server");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sink = folder.path().display().to_string();
    let pipeline = |name: &str, settings: &str| {
        let (file, table) = (server.url("in/day=01/orders%201.ndjson"), server.url("in/customers.csv"));
        format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: web}}\nspec:\n  mode: job\n  parallelism: 2\n  source:\n    \
             name: orders\n    file: {{path: '{file}', rangeBytes: 16KiB{settings}}}\n    retry: {{maxRetries: 0}}\n  steps:\n    \
             - lookup: {{file: {{path: '{table}'{settings}}}, on: [customer], onMiss: drop}}\n  sink:\n    \
             file: {{path: '{sink}/{name}/all.ndjson'}}\n"
        )
    };
    let told = ", retryTimeout: 300ms";
    let stranger = run(&write(folder.path(), "stranger.yaml", &pipeline("stranger", told)), |_| {});
    assert_eq!(stranger.code, Some(2), "{}", stranger.stderr);
    for said in ["store-untrusted", "UnknownIssuer", "caCert"] {
        assert!(stranger.stderr.contains(said), "{said} is not told: {}", stranger.stderr);
    }

    let by_setting = format!(", caCert: '{}'", server.certificate().display());
    let manifest = write(folder.path(), "setting.yaml", &pipeline("setting", &by_setting));
    let done = run(&manifest, |_| {});
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows = |name: &str| {
        let text = std::fs::read_to_string(format!("{sink}/{name}/all.ndjson")).expect("the output");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let by_setting = rows("setting");
    assert!(by_setting.len() > 1800, "{}", by_setting.len());

    let again = tempfile::tempdir().expect("a temporary folder");
    let manifest = write(again.path(), "environment.yaml", &pipeline("environment", ""));
    let done = run(&manifest, |command| {
        command.env("SSL_CERT_FILE", server.certificate());
    });
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(rows("environment"), by_setting);

    let wild = copy(&server.url("in/*.csv"), "", &sink, "");
    let done = run(&write(folder.path(), "wild.yaml", &wild), |_| {});
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("wildcard-over-http"), "{}", done.stderr);
    let back = copy(&server.url("in/customers.csv"), "", &server.url("out"), "");
    let done = run(&write(folder.path(), "back.yaml", &back), |command| {
        command.env("SSL_CERT_FILE", server.certificate());
    });
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("target-read-only"), "{}", done.stderr);
}
