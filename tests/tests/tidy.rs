//! The style that a machine can check. Limits that the tree does not keep yet stand in `tests/tidy-allow.txt`, which may
//! only shrink: `TIDY_UPDATE=1 cargo test -p conveyor-tests --test tidy` writes it anew, and the review sees the diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use conveyor_tests::source_text::{code_only, functions, without_tests};
use conveyor_tests::workspace::{files, root, short};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

fn rust_files() -> Vec<(PathBuf, String)> {
    let all = files(&["rs"]).expect("the tree can be listed");
    all.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", short(path)))
}

/// Code that never runs for users: integration tests, benches, this crate.
fn is_test_code(path: &Path) -> bool {
    let path = short(path);
    path.split('/')
        .any(|part| part == "tests" || part == "benches" || part == "tests.rs" || part == "testing")
}

/// What is longer than it should be: `file <path>` or `function <path> <name>`, and its length.
fn too_long() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            found.insert(format!("file {}", short(&path)), lines);
        }
        for function in functions(&code_only(&text)).into_iter().filter(|f| f.lines > FUNCTION_LINES) {
            let longest = found.entry(format!("function {} {}", short(&path), function.name)).or_default();
            *longest = function.lines.max(*longest);
        }
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    let list = root().join("tests").join("tidy-allow.txt");
    let actual = too_long();
    if std::env::var_os("TIDY_UPDATE").is_some() {
        let mut text = String::new();
        for (what, lines) in &actual {
            writeln!(text, "{what} {lines}").expect("a string takes everything");
        }
        std::fs::write(&list, text).expect("the list can be written");
    }
    let allowed: BTreeMap<String, usize> = read(&list)
        .lines()
        .map(|line| line.rsplit_once(' ').expect("what, then its length"))
        .map(|(what, lines)| (what.to_string(), lines.parse().expect("a number of lines")))
        .collect();
    let mut wrong = Vec::new();
    for (what, lines) in &actual {
        if allowed.get(what).is_none_or(|most| lines > most) {
            wrong.push(format!(
                "{what}: {lines} lines; files have {FILE_LINES} at most, functions {FUNCTION_LINES}"
            ));
        }
    }
    for (what, most) in &allowed {
        if actual.get(what).is_none_or(|lines| lines < most) {
            wrong.push(format!(
                "{what} has become shorter than {most}: shrink tests/tidy-allow.txt (TIDY_UPDATE=1)"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> =
        rust_files().iter().filter(|(_, t)| !t.starts_with("//! ")).map(|(p, _)| short(p)).collect();
    assert!(silent.is_empty(), "these do not open with `//! ` and a sentence: {silent:?}");
}

#[test]
fn nothing_is_left_half_done() {
    let marks = ["TODO", "FIXME", "XXX", "HACK"].map(|m| format!("{m}:"));
    let calls = ["todo", "unimplemented", "dbg"].map(|c| format!("{c}!("));
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let code = code_only(&text);
        for (number, line) in text.lines().enumerate() {
            let comment = line.find("//").map_or("", |at| &line[at..]);
            let bare = ["TODO", "FIXME"]
                .iter()
                .any(|m| comment.split(|c: char| !c.is_alphanumeric()).any(|w| w == *m));
            // This file names what it looks for.
            if (bare || marks.iter().any(|m| comment.contains(m))) && !path.ends_with("tidy.rs") {
                wrong.push(format!("{}:{}: a note instead of the work", short(&path), number + 1));
            }
        }
        for (number, line) in code.lines().enumerate() {
            if calls.iter().any(|c| line.contains(c.as_str())) || line.contains("#[ignore") {
                wrong.push(format!("{}:{}: `{}`", short(&path), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files().into_iter().filter(|(path, _)| !is_test_code(path)) {
        for (number, line) in without_tests(&code_only(&text)).lines().enumerate() {
            if line.contains(".unwrap()") || line.contains(".expect(\"\")") {
                wrong.push(format!("{}:{}: say why it cannot fail, with expect", short(&path), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let places = ["root", "work", "home"].map(|p| format!("/{p}/"));
    let mut wrong = Vec::new();
    for path in files(&["rs", "md", "toml", "yaml", "yml", "py", "proto", "sh", "service"])
        .expect("the tree can be listed")
    {
        for (number, line) in read(&path).lines().enumerate() {
            let starts = |place: &String| {
                line.match_indices(place.as_str()).any(|(at, _)| {
                    // `https://example/work/x` and `{root}/work/` are other things than a path from the root.
                    !line[..at].ends_with(|c: char| {
                        c.is_alphanumeric() || ['.', '}', '_', '-', '*', '>', '/'].contains(&c)
                    })
                })
            };
            if places.iter().any(starts) {
                wrong.push(format!("{}:{}: {}", short(&path), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_merge_is_left_undone() {
    let marks = ["<", ">"].map(|sign| format!("{} ", sign.repeat(7)));
    let all = files(&["rs", "md", "yaml", "yml", "toml", "proto", "py", "sh", "json"])
        .expect("the tree can be listed");
    let marked = |path: &PathBuf| read(path).lines().any(|line| marks.iter().any(|m| line.starts_with(m)));
    let found: Vec<_> = all.iter().filter(|path| marked(path)).map(|path| short(path)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in files(&["md"]).expect("the tree can be listed") {
        let text = read(&path);
        for target in links(&text) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:") || file.is_empty();
            if !outside && !path.parent().unwrap_or(root()).join(file).exists() {
                wrong.push(format!("{}: {target}", short(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Targets of `[text](target)`, without those in code blocks.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let mut found = Vec::new();
    for part in prose {
        for piece in part.split("](").skip(1) {
            found.extend(piece.split(')').next().map(str::to_string));
        }
    }
    found
}

#[test]
fn links_are_found_outside_code() {
    assert_eq!(links("see [a](b.md#c) and\n```\n[x](y)\n```\n[d](e)"), ["b.md#c", "e"]);
}
