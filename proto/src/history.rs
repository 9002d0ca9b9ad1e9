//! Conversions of what the log remembers of a pipeline.

use conveyor_model::log::{Change, PlanVersion, What};
use conveyor_model::{Error, Incarnation, Result};

use crate::convert::{object, phase};
use crate::v1;
use crate::wire::{malformed, unknown};

const WHAT: &str = "pipeline's history";

impl From<&Change> for v1::Change {
    fn from(change: &Change) -> Self {
        let what = match change.what {
            What::Plan => v1::What::Plan,
            What::Start => v1::What::Start,
            What::Phase => v1::What::Phase,
            What::Reset => v1::What::Reset,
            What::Restore => v1::What::Restore,
        };
        Self {
            at_us: change.at_us,
            what: what.into(),
            version: change.version,
            incarnation: change.incarnation.0,
            phase: v1::Phase::from(change.phase).into(),
            reason: change.reason.clone(),
        }
    }
}

impl TryFrom<v1::Change> for Change {
    type Error = Error;

    fn try_from(m: v1::Change) -> Result<Self> {
        let what = match v1::What::try_from(m.what) {
            Ok(v1::What::Plan) => What::Plan,
            Ok(v1::What::Start) => What::Start,
            Ok(v1::What::Phase) => What::Phase,
            Ok(v1::What::Reset) => What::Reset,
            Ok(v1::What::Restore) => What::Restore,
            Ok(v1::What::Unspecified) => return Err(malformed(WHAT, "has a change of no kind")),
            Err(_) => return Err(unknown(WHAT, &format!("has a change of the unknown kind {}", m.what))),
        };
        Ok(Self {
            at_us: m.at_us,
            what,
            version: m.version,
            incarnation: Incarnation(m.incarnation),
            phase: phase(WHAT, m.phase)?,
            reason: m.reason,
        })
    }
}

impl From<&PlanVersion> for v1::PlanVersion {
    fn from(of: &PlanVersion) -> Self {
        Self { version: of.version, plan: Some((&of.plan).into()), at_us: of.at_us }
    }
}

impl TryFrom<v1::PlanVersion> for PlanVersion {
    type Error = Error;

    fn try_from(m: v1::PlanVersion) -> Result<Self> {
        Ok(Self { version: m.version, plan: object(WHAT, m.plan)?, at_us: m.at_us })
    }
}
