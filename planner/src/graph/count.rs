//! How many steps a pipeline has once its Transforms are written out, counted before any is.

use std::collections::BTreeMap;

use super::{MAX_NESTING, Resolver};
use crate::manifest::defs::{Body, PipelineDef, StepDef};

/// Most steps of a pipeline after its Transforms are written out: Transforms that use others twice grow fast.
const MAX_STEPS: u64 = 10_000;

impl Resolver<'_> {
    /// Whether the steps are not too many once the Transforms are written out, which is counted before any is.
    pub(super) fn fits(&mut self, def: &PipelineDef) -> bool {
        let mut known = BTreeMap::new();
        let mut total = 0u64;
        for step in &def.steps {
            total = total.saturating_add(self.count(step, &mut known, 0));
            if total > MAX_STEPS {
                let message = format!("the pipeline has more than {MAX_STEPS} steps");
                let help = "Transforms that use others twice grow fast";
                self.diags.error_help("too-many-steps", &step.at, message, help.to_owned());
                return false;
            }
        }
        true
    }

    fn count(&self, step: &StepDef, known: &mut BTreeMap<String, u64>, depth: usize) -> u64 {
        let Body::Use(name) = &*step.body else { return 1 };
        if let Some(count) = known.get(&name.value) {
            return *count;
        }
        let transform = self.objects.transforms.get(&(self.namespace.to_owned(), name.value.clone()));
        // One that is not there, uses itself or is too deep is told when it is written out.
        let Some(transform) = transform.filter(|_| depth <= MAX_NESTING) else { return 1 };
        known.insert(name.value.clone(), 1);
        let add = |sum: u64, step| sum.saturating_add(self.count(step, known, depth + 1));
        let count = transform.steps.iter().fold(0, add);
        known.insert(name.value.clone(), count);
        count
    }
}
