//! The planner's findings and differences as REST shows them.

use conveyor_planner::{Action, Diagnostic, PlanDiff, Severity, StateVerdict};

use super::views::{
    AppliedPipeline, ChangeAction, Changes, FieldChange, Finding, ObjectChange, StateChange, Verdict,
};
use crate::control::Planned;

/// Diagnostics of a manifest.
pub(super) fn findings(all: &[Diagnostic]) -> Vec<Finding> {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let one = |d: &Diagnostic| Finding {
        severity: match d.severity {
            Severity::Error => "error".to_owned(),
            Severity::Warning => "warning".to_owned(),
        },
        code: d.code.to_owned(),
        message: d.message.clone(),
        line: number(d.line),
        column: number(d.column),
        path: d.path.clone(),
        help: d.help.clone(),
    };
    all.iter().map(one).collect()
}

/// A planned pipeline that is at `version` now.
pub(super) fn applied(planned: &Planned, version: u64) -> AppliedPipeline {
    AppliedPipeline {
        namespace: planned.plan.pipeline.namespace.clone(),
        name: planned.plan.pipeline.name.clone(),
        version,
        from_version: planned.version,
        changes: changes(&planned.diff),
        explanation: planned.explained.clone(),
        warnings: findings(&planned.warnings),
    }
}

/// What changes from one plan to the next.
pub(super) fn changes(diff: &PlanDiff) -> Changes {
    let (to_add, to_change, to_destroy) = diff.counts();
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Changes {
        to_add: number(to_add),
        to_change: number(to_change),
        to_destroy: number(to_destroy),
        objects: diff.objects.iter().map(object).collect(),
        state: diff.states.iter().map(state).collect(),
        state_loss: diff.loses_state(),
    }
}

fn object(change: &conveyor_planner::ObjectChange) -> ObjectChange {
    let field = |f: &conveyor_planner::FieldChange| FieldChange {
        path: f.path.clone(),
        before: f.before.clone(),
        after: f.after.clone(),
    };
    ObjectChange {
        kind: change.kind.to_string(),
        name: change.name.clone(),
        action: match change.action {
            Action::Add => ChangeAction::Add,
            Action::Change => ChangeAction::Change,
            Action::Destroy => ChangeAction::Destroy,
            Action::Replace => ChangeAction::Replace,
        },
        fields: change.fields.iter().map(field).collect(),
    }
}

fn state(change: &conveyor_planner::StateChange) -> StateChange {
    StateChange {
        kind: change.of.to_string(),
        name: change.name.clone(),
        what: change.what.clone(),
        verdict: match change.verdict {
            StateVerdict::Keep => Verdict::Keep,
            StateVerdict::Migrate => Verdict::Migrate,
            StateVerdict::Rebuild => Verdict::Rebuild,
            StateVerdict::Drop => Verdict::Drop,
        },
        reason: change.reason.clone(),
    }
}
