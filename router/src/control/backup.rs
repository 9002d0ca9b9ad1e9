//! The control state as it is kept outside of the cluster, and how it comes back.
//!
//! A backup holds what the log holds: references and hashes of plans and manifests, never rows. The objects that it names stay
//! in the cluster's store, and are checked before anything is restored.

use conveyor_model::log::{Command, Log as _, Outcome, PipelineState, What};
use conveyor_model::manifest::Manifests as _;
use conveyor_model::plan::{NodeOutput, Plan};
use conveyor_model::sink::SinkContext;
use conveyor_model::{Epoch, Error, Kind, PipelineId, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{Control, refused};

/// The only form that is known.
const FORMAT: u64 = 1;

/// The control state of a cluster at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backup {
    /// Version of this form: 1.
    pub format: u64,
    /// Name of the cluster.
    pub cluster: String,
    /// When it was taken, microseconds since 1970.
    pub taken_at_us: i64,
    /// All pipelines that ever were, in order; deleted ones keep their numbers.
    pub pipelines: Vec<SavedPipeline>,
    /// SHA-256 in hex of all of the above as JSON.
    pub sha256: String,
}

/// A pipeline of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavedPipeline {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What the log knows of it.
    #[schema(value_type = Object)]
    pub state: PipelineState,
}

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Pipelines with a plan, as `namespace/name`.
    pub pipelines: Vec<String>,
    /// Name of the backup in the histories: the start of its SHA-256.
    pub backup: String,
}

impl SavedPipeline {
    fn id(&self) -> PipelineId {
        PipelineId::new(&self.namespace, &self.name)
    }
}

impl Backup {
    /// Reads a backup and checks that it is whole.
    ///
    /// # Errors
    /// `backup-format` if another version wrote it, `backup-damaged` if it is not what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value = serde_json::from_slice(bytes).map_err(|e| damaged("it is not JSON").because(e))?;
        Self::read(value)
    }

    /// As [`Backup::parse`].
    ///
    /// # Errors
    /// As [`Backup::parse`].
    pub fn read(document: serde_json::Value) -> Result<Self> {
        match document["format"].as_u64() {
            Some(FORMAT) => {}
            Some(other) => {
                let why = format!("the backup's format is {other}, and {FORMAT} is known here");
                return Err(Error::bad_input("backup-format", why)
                    .help("restore it with the version of conveyor that made it, or a later one"));
            }
            None => return Err(damaged("it names no format")),
        }
        let backup: Self =
            serde_json::from_value(document).map_err(|e| damaged("it lacks something").because(e))?;
        if backup.hash()? != backup.sha256 {
            return Err(damaged("its checksum does not hold"));
        }
        Ok(backup)
    }

    fn hash(&self) -> Result<String> {
        let whole = (self.format, &self.cluster, self.taken_at_us, &self.pipelines);
        let bytes = serde_json::to_vec(&whole)
            .map_err(|e| Error::runtime("not-json", "a backup cannot be written as JSON").because(e))?;
        Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What histories call it.
    fn name(&self) -> String {
        format!("backup {}", self.sha256.get(..16).unwrap_or(&self.sha256))
    }
}

fn damaged(why: &str) -> Error {
    Error::bad_input("backup-damaged", format!("the backup is damaged: {why}"))
        .help("nothing was restored; take another copy or an older backup")
}

impl Control {
    /// The control state as agreed now.
    ///
    /// # Errors
    /// If no leader answers.
    pub async fn backup(&self) -> Result<Backup> {
        let saved = |(id, state): (PipelineId, PipelineState)| SavedPipeline {
            namespace: id.namespace,
            name: id.name,
            state,
        };
        let mut backup = Backup {
            format: FORMAT,
            cluster: self.log().identity().cluster.clone(),
            taken_at_us: self.0.clock.wall_us(),
            pipelines: self.log().list().await?.into_iter().map(saved).collect(),
            sha256: String::new(),
        };
        backup.sha256 = backup.hash()?;
        Ok(backup)
    }

    /// Restores a backup into a cluster that has no pipelines. Everything is checked before anything is changed; a restore that
    /// was broken off is finished by doing it again.
    ///
    /// # Errors
    /// `backup-other-cluster`, `cluster-not-empty`; what is wrong with an object that the backup names; `ledger-ahead` if a
    /// target has had a later epoch than the backup knows: restoring would write rows twice.
    pub async fn restore(&self, backup: &Backup, validate_only: bool) -> Result<Restored> {
        let own = &self.log().identity().cluster;
        if backup.cluster != *own {
            let why = format!("the backup is of the cluster {}, and this one is {own}", backup.cluster);
            return Err(Error::new(Kind::Fenced, "backup-other-cluster", why)
                .help("restore it where the routers have its --cluster-name"));
        }
        let name = backup.name();
        self.is_empty_but_for(&name).await?;
        for saved in backup.pipelines.iter().filter(|p| p.state.plan.is_some()) {
            self.can_go_on(saved).await.map_err(|e| e.in_pipeline(saved.id()))?;
        }
        if !validate_only {
            let at_us = self.0.clock.wall_us();
            for saved in &backup.pipelines {
                let (pipeline, state) = (saved.id(), Box::new(saved.state.clone()));
                let command = Command::RestorePipeline { pipeline, state, backup: name.clone(), at_us };
                match self.propose(command).await? {
                    Outcome::Done => {}
                    other => return Err(refused(&saved.id(), "the restored pipeline", &other)),
                }
            }
        }
        let planned = backup.pipelines.iter().filter(|p| p.state.plan.is_some());
        Ok(Restored { pipelines: planned.map(|p| p.id().to_string()).collect(), backup: name })
    }

    /// A log that knows pipelines of its own would mix two histories.
    async fn is_empty_but_for(&self, backup: &str) -> Result<()> {
        for (id, state) in self.log().list().await? {
            let restored = |c: &conveyor_model::log::Change| c.what == What::Restore && c.reason == backup;
            if state.plan.is_some() && !state.history.iter().any(restored) {
                let why = format!("the cluster has the pipeline {id} already");
                return Err(Error::new(Kind::Fenced, "cluster-not-empty", why)
                    .help("a backup is restored into a new cluster, whose routers begin with empty data directories"));
            }
        }
        Ok(())
    }

    /// Whether all that the pipeline goes on from is there and whole, and no target is ahead of it.
    async fn can_go_on(&self, saved: &SavedPipeline) -> Result<()> {
        let Some(plan) = self.current_plan(&saved.state).await? else { return Ok(()) };
        if plan.pipeline != saved.id() {
            return Err(damaged("it names another pipeline's plan"));
        }
        let newest = saved.state.newest_published();
        // The ledgers are asked first: a manifest is cleaned up once later epochs are committed, and that is the reason then.
        for (name, ledger, place) in self.ledgers(&plan, &saved.state).await? {
            if ledger > newest {
                let text = |e: Option<Epoch>| e.map_or("none".to_owned(), |e| e.to_string());
                let why = format!(
                    "the target's ledger says that epoch {} is applied, but the backup knows {}",
                    text(ledger),
                    text(newest)
                );
                let error = Error::new(Kind::Fenced, "ledger-ahead", why).at(name).help(
                    "rows after the backup would be written twice: take a newer backup, or give the sink a new \
                     target, or move the target away together with its ledger",
                );
                return Err(match place {
                    Some(place) => error.in_split(place),
                    None => error,
                });
            }
        }
        if let Some(committed) = &saved.state.committed {
            self.0.store.read(&saved.id(), &committed.manifest).await?;
        }
        Ok(())
    }

    /// The ledger of each sink: its name, the newest epoch it names, and where it lies.
    async fn ledgers(
        &self,
        plan: &Plan,
        state: &PipelineState,
    ) -> Result<Vec<(String, Option<Epoch>, Option<String>)>> {
        let mut all = Vec::new();
        for node in &plan.nodes {
            let NodeOutput::Sink(sink) = &node.output else { continue };
            let Some(connector) = self.0.registry.sinks.get(sink.connector.as_str()) else {
                let why = format!("this router has no sink connector {}", sink.connector);
                return Err(Error::bad_input("unknown-connector", why).at(&sink.name));
            };
            let context = SinkContext {
                pipeline: plan.pipeline.clone(),
                name: sink.name.as_str().into(),
                config: sink.config.clone(),
                schema: node.schema.clone(),
                incarnation: state.incarnation,
                mode: plan.mode,
                delivery: sink.delivery,
                subtask: 0,
                parallelism: node.parallelism,
                forgotten: state.forgotten,
                clock: self.0.clock.clone(),
            };
            let mut committer = connector.committer(context).await.map_err(|e| e.at(&sink.name))?;
            let ledger = committer.ledger().await.map_err(|e| e.at(&sink.name))?;
            all.push((sink.name.clone(), ledger, committer.place()));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Backup {
        let state = PipelineState { version: 2, next_epoch: 5, ..PipelineState::default() };
        let saved = SavedPipeline { namespace: "default".into(), name: "p".into(), state };
        let mut backup = Backup {
            format: FORMAT,
            cluster: "here".into(),
            taken_at_us: 7,
            pipelines: vec![saved],
            sha256: String::new(),
        };
        backup.sha256 = backup.hash().expect("a hash");
        backup
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = serde_json::to_vec_pretty(&backup()).expect("JSON");
        assert_eq!(Backup::parse(&bytes).expect("read"), backup());
    }

    #[test]
    fn damage_and_other_forms_are_told_apart() {
        let text = serde_json::to_string(&backup()).expect("JSON");
        let code = |text: &str| Backup::parse(text.as_bytes()).expect_err("refused").code();
        assert_eq!(code(&text.replace("\"format\":1", "\"format\":2")), "backup-format");
        assert_eq!(
            code(
                &text
                    .replace("\"nextEpoch\":5", "\"nextEpoch\":6")
                    .replace("\"next_epoch\":5", "\"next_epoch\":6")
            ),
            "backup-damaged"
        );
        assert_eq!(code(&text.replace("here", "there")), "backup-damaged");
        assert_eq!(code(&text.replace("takenAtUs", "takenAt")), "backup-damaged");
        assert_eq!(code(&text[..text.len() / 2]), "backup-damaged");
        assert_eq!(code("[]"), "backup-damaged");
        assert_eq!(code(""), "backup-damaged");
    }
}
