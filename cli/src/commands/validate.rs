//! `validate`: every mistake of all manifests at once.

use conveyor_planner::{Diagnostic, Severity};
use serde_json::json;

use crate::args::{Format, Global, ValidateArgs};
use crate::manifests::{self, Failure};
use crate::output;

/// Checks manifests.
pub(super) async fn run(global: &Global, args: &ValidateArgs) -> Result<(), Failure> {
    let loaded = manifests::load(&args.files, &conveyor_connectors::registry(), !args.offline).await;
    if args.output != Format::Text {
        let diagnostics = match &loaded {
            Ok(loaded) => &loaded.warnings,
            Err(Failure::Diagnostics(all) | Failure::Unreachable(all)) => all,
            Err(Failure::Error(_)) => &Vec::new(),
        };
        let all: Vec<_> = diagnostics.iter().map(document).collect();
        if args.output == Format::Ndjson {
            output::documents(all, args.output)?;
        } else {
            output::json(&json!({"ok": loaded.is_ok(), "diagnostics": all}))?;
        }
    }
    let loaded = loaded?;
    print(global, &loaded.warnings);
    if args.output == Format::Text {
        for compiled in &loaded.compiled {
            let plan = &compiled.plan;
            output::line(&format!(
                "{}: ok, {} nodes, {} edges",
                plan.pipeline,
                plan.nodes.len(),
                plan.edges.len()
            ))?;
        }
    }
    Ok(())
}

/// Shows diagnostics on standard error, with a closing count.
pub(super) fn print(global: &Global, diagnostics: &[Diagnostic]) {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    for diagnostic in diagnostics {
        if !global.quiet || diagnostic.severity == Severity::Error {
            eprintln!("{diagnostic}\n");
        }
    }
    match errors {
        0 => {}
        1 => eprintln!("1 error; nothing was run"),
        n => eprintln!("{n} errors; nothing was run"),
    }
}

fn document(d: &Diagnostic) -> serde_json::Value {
    json!({
        "severity": if d.severity == Severity::Error { "error" } else { "warning" },
        "code": d.code,
        "message": d.message,
        "file": d.file,
        "line": d.line,
        "column": d.column,
        "path": d.path,
        "help": d.help,
    })
}
