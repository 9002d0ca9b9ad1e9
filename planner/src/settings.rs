//! The settings file of a process: YAML with one value, list or mapping for each name. Read as manifests are, so that what is
//! wrong is said with its place.

use crate::diagnostic::{Diagnostics, Files, did_you_mean};
use crate::yaml::{Node, Value, parse, shown};
use crate::{Diagnostic, Document};

/// A setting of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as the file spells it.
    pub name: String,
    /// Its values as text: one, those of a list, or `key=value` for each entry of a mapping.
    pub values: Vec<String>,
}

/// Reads a settings file. `check` says what is wrong with a setting's values, for a name that is among `known`.
///
/// # Errors
/// Everything that is wrong with the file, each with its line and column.
pub fn settings(
    document: &Document,
    known: &[String],
    check: &dyn Fn(&Setting) -> Result<(), String>,
) -> Result<Vec<Setting>, Vec<Diagnostic>> {
    let files = Files(std::sync::Arc::new(vec![document.clone()]));
    let mut diags = Diagnostics::new(files);
    let roots = parse(0, &document.text, &mut diags);
    let mut all = Vec::new();
    if let Some(second) = roots.get(1) {
        diags.error("settings-two-documents", &second.at, "a settings file is one document");
    }
    for root in roots.iter().take(1) {
        if !matches!(root.value, Value::Map(_) | Value::Null) {
            let message = format!("settings are a mapping of names to values, not {}", root.kind());
            diags.error("settings-form", &root.at, message);
        }
        for entry in root.entries() {
            if !known.contains(&entry.key) {
                let help = did_you_mean(&entry.key, known.iter().map(String::as_str));
                let message = format!("there is no setting `{}` here", shown(&entry.key));
                diags.error_help("unknown-key", &entry.at, message, help);
                continue;
            }
            let Some(values) = values(&entry.node) else {
                let message = format!("`{}` cannot be {}", entry.key, entry.node.kind());
                diags.error("setting-form", &entry.node.at, message);
                continue;
            };
            let setting = Setting { name: entry.key.clone(), values };
            match check(&setting) {
                Ok(()) => all.push(setting),
                Err(why) => diags.error("setting-value", &entry.node.at, why),
            }
        }
    }
    if diags.errors() > 0 { Err(diags.finish()) } else { Ok(all) }
}

fn values(node: &Node) -> Option<Vec<String>> {
    match &node.value {
        Value::Null => None,
        Value::List(items) => items.iter().map(|item| item.scalar().map(str::to_owned)).collect(),
        Value::Map(entries) => {
            let pair = |e: &crate::yaml::Entry| e.node.scalar().map(|value| format!("{}={value}", e.key));
            entries.iter().map(pair).collect()
        }
        _ => node.scalar().map(|text| vec![text.to_owned()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Setting>, Vec<String>> {
        let document = Document { name: "s.yaml".to_owned(), text: text.to_owned() };
        let known = ["grpcPort", "peers", "label"].map(str::to_owned);
        let check = |s: &Setting| if s.values == ["bad"] { Err("it is bad".to_owned()) } else { Ok(()) };
        settings(&document, &known, &check)
            .map_err(|all| all.iter().map(|d| format!("{} {}:{}", d.code, d.line, d.column)).collect())
    }

    #[test]
    fn values_lists_and_mappings_become_text() {
        let all = read("grpcPort: 70\npeers: [1=a:1, 2=b:2]\nlabel: {zone: a, tier: 2}\n").expect("settings");
        let values: Vec<Vec<String>> = all.into_iter().map(|s| s.values).collect();
        let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(values, [words(&["70"]), words(&["1=a:1", "2=b:2"]), words(&["zone=a", "tier=2"])]);
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let wrong = read("grpcport: 70\ngrpcPort: bad\npeers: [[1]]\nlabel:\n").expect_err("wrong");
        assert_eq!(wrong, ["unknown-key 1:1", "setting-value 2:11", "setting-form 3:8", "setting-form 4:6"]);
        assert_eq!(read("- a\n").expect_err("a list"), ["settings-form 1:1"]);
        assert_eq!(read("label: {a: b}\nlabel: {}\n").expect_err("twice"), ["duplicate-key 2:1"]);
    }

    #[test]
    fn the_nearest_name_is_named() {
        let document = Document { name: "s.yaml".to_owned(), text: "grpcport: 1\n".to_owned() };
        let wrong = settings(&document, &["grpcPort".to_owned()], &|_| Ok(())).expect_err("unknown");
        assert_eq!(wrong[0].help.as_deref(), Some("did you mean `grpcPort`?"));
        assert_eq!((wrong[0].file.as_str(), wrong[0].path.as_str()), ("s.yaml", "grpcport"));
    }
}
