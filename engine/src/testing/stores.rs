//! Dead letters in memory, and no secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use conveyor_model::dead_letter::{DeadLetterContext, DeadLetterQueue, DeadLetters, DeadRows};
use conveyor_model::manifest::StagedRef;
use conveyor_model::secret::{SecretRef, Secrets};
use conveyor_model::{Epoch, Error, Incarnation, PipelineId, Result};
use parking_lot::Mutex;

/// A dead letter as tests look at it: split, position, code.
pub(crate) type Letter = (String, u64, String);

/// Dead letters: staged by name, then published.
#[derive(Default)]
pub(crate) struct MemoryDlq {
    staged: Arc<Mutex<BTreeMap<String, Vec<Letter>>>>,
    pub(crate) published: Mutex<BTreeMap<String, Vec<Letter>>>,
}

impl MemoryDlq {
    /// All published letters, sorted.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        let mut all: Vec<_> = self.published.lock().values().flatten().cloned().collect();
        all.sort();
        all
    }
}

struct Writer {
    name: String,
    files: u64,
    open: Vec<Letter>,
    staged: Arc<Mutex<BTreeMap<String, Vec<Letter>>>>,
}

#[async_trait]
impl DeadLetters for Writer {
    async fn write(
        &mut self,
        _operator: &str,
        _name: &str,
        rows: DeadRows,
        _event_time_us: Option<Vec<Option<i64>>>,
    ) -> Result<()> {
        match rows {
            DeadRows::Raw(rows) => {
                let letter = |r: conveyor_model::dead_letter::Rejected| {
                    (r.row.split.to_string(), r.row.position, r.error.code.to_string())
                };
                self.open.extend(rows.into_iter().map(letter));
            }
            DeadRows::Typed { rows, errors } => {
                for (i, error) in errors.iter().enumerate() {
                    let row = rows.origin().get(i);
                    self.open.push((row.split.to_string(), row.position, error.code.to_string()));
                }
            }
        }
        Ok(())
    }

    async fn stage(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        if self.open.is_empty() {
            return Ok(Vec::new());
        }
        self.files += 1;
        let staged = format!("{}-{epoch}-{}", self.name, self.files);
        let rows = self.open.len() as u64;
        self.staged.lock().insert(staged.clone(), std::mem::take(&mut self.open));
        Ok(vec![StagedRef { publish: staged.clone(), staged, rows, bytes: rows }])
    }
}

#[async_trait]
impl DeadLetterQueue for MemoryDlq {
    fn writer(&self, context: DeadLetterContext) -> Box<dyn DeadLetters> {
        let name = format!("{}-{}", context.incarnation, context.task);
        Box::new(Writer { name, files: 0, open: Vec::new(), staged: self.staged.clone() })
    }

    async fn publish(&self, _epoch: Epoch, staged: &[StagedRef]) -> Result<()> {
        for file in staged {
            if self.published.lock().contains_key(&file.publish) {
                continue;
            }
            let letters = self.staged.lock().get(&file.staged).cloned().expect("published files were staged");
            self.published.lock().insert(file.publish.clone(), letters);
        }
        Ok(())
    }

    async fn sweep(&self, _pipeline: &PipelineId, current: Incarnation) -> Result<()> {
        let before = |name: &str| {
            name.split('-').next().and_then(|i| i.parse().ok()).is_some_and(|i: u64| i < current.0)
        };
        self.staged.lock().retain(|name, _| !before(name));
        Ok(())
    }
}

/// Knows no secret.
pub(crate) struct NoSecrets;

impl Secrets for NoSecrets {
    fn resolve(&self, _reference: &SecretRef) -> Result<Vec<u8>> {
        Err(Error::bad_input("no-secrets", "tests have no secrets"))
    }
}
