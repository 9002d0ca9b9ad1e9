//! What holds for every text.

use conveyor_model::source::Pushdown;
use conveyor_planner::Options;
use proptest::prelude::*;

use crate::support::*;

const GOOD: &str = include_str!("manifests/late-flights.yaml");

/// Reads and compiles whatever it is given.
fn survive(text: &str) {
    let parsed = parse(text);
    for finding in &parsed.diagnostics {
        assert!(finding.line >= 1 && finding.column >= 1 && !finding.to_string().is_empty());
    }
    for pipeline in parsed.objects.pipelines() {
        let options = Options::default();
        let found =
            conveyor_planner::compile(&parsed.objects, &pipeline, &catalog(Pushdown::Exact), &options);
        if parsed.diagnostics.iter().any(|d| d.severity == conveyor_planner::Severity::Error) {
            continue;
        }
        if let Err(found) = found {
            assert!(!found.is_empty(), "a pipeline is refused without a reason:\n{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|[-a-z:{}\\[\\],&*!|>'\"#%@ \n\t0-9]{0,200}") {
        survive(&text);
    }

    #[test]
    fn no_damage_to_a_good_manifest_panics(at in 0..GOOD.len(), length in 0usize..40, with in "\\PC{0,10}|[-a-z:{}\\[\\], \n]{0,10}") {
        let start = (0..=at).rev().find(|i| GOOD.is_char_boundary(*i)).unwrap_or(0);
        let end = (at + length..=GOOD.len()).find(|i| GOOD.is_char_boundary(*i)).unwrap_or(GOOD.len());
        survive(&format!("{}{with}{}", &GOOD[..start], &GOOD[end.max(start)..]));
    }
}

#[test]
fn equal_manifests_give_equal_plans() {
    let bytes = || serde_json::to_vec(&compiled_with(GOOD, Pushdown::Exact, 2).plan).expect("plans are JSON");
    assert_eq!(bytes(), bytes());
    let plan = compiled_with(GOOD, Pushdown::Exact, 2).plan;
    let back: conveyor_model::plan::Plan = serde_json::from_slice(&bytes()).expect("plans are read back");
    assert_eq!(back, plan);
}
