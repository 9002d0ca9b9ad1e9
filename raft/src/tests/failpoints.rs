//! The list of crash points is what the code has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_crash_point_is_listed_and_every_listed_one_exists() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut named = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("source");
        let points = text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
        named.extend(points.map(str::to_owned));
    }
    named.retain(|name| name.starts_with("raft-"));
    let listed: BTreeSet<String> = crate::FAILPOINTS.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(named, listed);
    assert!(!listed.is_empty());
}
