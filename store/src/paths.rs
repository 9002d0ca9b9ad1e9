//! The only place that spells a key.
//!
//! ```text
//! pipelines/<namespace>/<name>/plans/<sha256>.json
//! pipelines/<namespace>/<name>/manifests/<epoch>-<incarnation>.json
//! pipelines/<namespace>/<name>/state/<incarnation>/<task>/<step>/<sequence>-<random>.state
//!
//! backups/<name>.json
//!
//! pipeline=<namespace>.<name>/operator=<id>/date=<yyyy-mm-dd>/part-<epoch>-<incarnation>-<task>-<sequence>.parquet
//! _conveyor/staging/<namespace>.<name>/<incarnation>-<task>-<sequence>-<random>.staged
//! _conveyor/replayed/<namespace>.<name>/<replay>-<epoch>.parquet
//! _conveyor/purging/<random>.json
//! _conveyor/purged/<key>
//! ```
//!
//! Numbers have 20 digits, so that names sort as numbers do. Names made by people are percent-encoded.

use conveyor_model::{Epoch, Incarnation, PipelineId, TaskId};
use sha2::{Digest, Sha256};

/// Folder of everything about dead letters that readers of the Parquet files must not see.
pub(crate) const DLQ_HIDDEN: &str = "_conveyor";

/// Folder of the backups of a place.
pub(crate) const BACKUPS: &str = "backups/";

/// A backup of a cluster's control state.
pub(crate) fn backup(name: &str) -> String {
    format!("{BACKUPS}{}.json", part(name))
}

/// The name of the backup under this key, if it is one.
pub(crate) fn backup_name(key: &str) -> Option<String> {
    key.strip_prefix(BACKUPS)?.strip_suffix(".json").filter(|name| !name.contains('/')).map(decode)
}

/// One part of a key: percent-encoded, never empty, `.` or `..`, never longer than a file name may be.
pub(crate) fn part(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    if out.bytes().all(|b| b == b'.') {
        out = out.replace('.', "%2E") + "%";
    }
    if out.len() > LONGEST {
        // A cut name keeps its uniqueness through a hash of the whole.
        let hash = hex(&Sha256::digest(text.as_bytes()));
        out.truncate(LONGEST - 33);
        out.push('~');
        out.push_str(&hash[..32]);
    }
    out
}

/// The text that [`part`] encoded, as far as it was not cut.
pub(crate) fn decode(part: &str) -> String {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = part.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a String cannot fail");
        out
    })
}

fn pipeline(id: &PipelineId) -> String {
    format!("pipelines/{}/{}", part(&id.namespace), part(&id.name))
}

/// A plan, named by the hash of its bytes.
pub(crate) fn plan(id: &PipelineId, sha256: &str) -> String {
    format!("{}/plans/{sha256}.json", pipeline(id))
}

/// Where a pipeline's manifests lie.
pub(crate) fn manifests(id: &PipelineId) -> String {
    format!("{}/manifests/", pipeline(id))
}

/// A manifest.
pub(crate) fn manifest(id: &PipelineId, epoch: Epoch, incarnation: Incarnation) -> String {
    format!("{}{:020}-{:020}.json", manifests(id), epoch.0, incarnation.0)
}

/// The epoch of a manifest's key.
pub(crate) fn manifest_epoch(key: &str) -> Option<Epoch> {
    let name = key.rsplit('/').next()?.strip_suffix(".json")?;
    name.split_once('-')?.0.parse().ok().map(Epoch)
}

/// Where a pipeline's state lies.
pub(crate) fn states(id: &PipelineId) -> String {
    format!("{}/state/", pipeline(id))
}

/// A snapshot of one step of one task. `sequence` grows from upload to upload within a process.
pub(crate) fn state(
    id: &PipelineId,
    i: Incarnation,
    task: TaskId,
    step: &str,
    sequence: u64,
    random: &str,
) -> String {
    format!("{}{:020}/{task}/{}/{sequence:020}-{random}.state", states(id), i.0, part(step))
}

/// What a state's key says: its incarnation, the key up to the sequence, the sequence.
pub(crate) fn parse_state(key: &str) -> Option<(Incarnation, &str, u64)> {
    let (series, name) = key.rsplit_once('/')?;
    let sequence = name.strip_suffix(".state")?.split_once('-')?.0.parse().ok()?;
    let incarnation = series.rsplit('/').nth(2)?.parse().ok()?;
    Some((Incarnation(incarnation), series, sequence))
}

/// `<namespace>.<name>`: a dot within a namespace is encoded, so that the first dot separates.
fn dotted(id: &PipelineId) -> String {
    format!("{}.{}", part(&id.namespace).replace('.', "%2E"), part(&id.name))
}

/// Published dead letters of a pipeline.
pub(crate) fn dlq_pipeline(id: &PipelineId) -> String {
    format!("pipeline={}/", dotted(id))
}

/// Folder of published dead letters of one operator and day.
pub(crate) fn dlq_folder(id: &PipelineId, operator: &str, date: &str) -> String {
    format!("{}operator={}/date={date}", dlq_pipeline(id), part(operator))
}

/// Name of a published file.
pub(crate) fn dlq_part(epoch: Epoch, incarnation: Incarnation, task: TaskId, sequence: u64) -> String {
    format!("part-{:020}-{}-{task}-{sequence}.parquet", epoch.0, incarnation.0)
}

/// What a published file's key says: pipeline, operator, date, epoch.
pub(crate) fn parse_dlq(key: &str) -> Option<(PipelineId, String, String, Epoch)> {
    let mut parts = key.split('/');
    let (namespace, name) = parts.next()?.strip_prefix("pipeline=")?.split_once('.')?;
    let operator = parts.next()?.strip_prefix("operator=")?;
    let date = parts.next()?.strip_prefix("date=")?;
    let file = parts.next()?.strip_prefix("part-")?.strip_suffix(".parquet")?;
    let epoch = file.split('-').next()?.parse().ok()?;
    let id = PipelineId::new(decode(namespace), decode(name));
    parts.next().is_none().then(|| (id, decode(operator), date.to_owned(), Epoch(epoch)))
}

/// Staged dead letters of a pipeline.
pub(crate) fn dlq_staging(id: &PipelineId) -> String {
    format!("{DLQ_HIDDEN}/staging/{}/", dotted(id))
}

/// A staged file of dead letters.
pub(crate) fn dlq_staged(
    id: &PipelineId,
    i: Incarnation,
    task: TaskId,
    sequence: u64,
    random: &str,
) -> String {
    format!("{}{:020}-{task}-{sequence}-{random}.staged", dlq_staging(id), i.0)
}

/// The incarnation of a staged file's key.
pub(crate) fn staged_incarnation(key: &str) -> Option<Incarnation> {
    key.rsplit('/').next()?.split_once('-')?.0.parse().ok().map(Incarnation)
}

/// Records of what was replayed of a pipeline's dead letters.
pub(crate) fn replayed(id: &PipelineId) -> String {
    format!("{DLQ_HIDDEN}/replayed/{}/", dotted(id))
}

/// Record of one epoch of one replay.
pub(crate) fn replayed_epoch(id: &PipelineId, replay: &str, epoch: Epoch) -> String {
    format!("{}{}-{:020}.parquet", replayed(id), part(replay), epoch.0)
}

/// Purges under way.
pub(crate) fn purging() -> String {
    format!("{DLQ_HIDDEN}/purging/")
}

/// A purge under way.
pub(crate) fn purge_intent(random: &str) -> String {
    format!("{}{random}.json", purging())
}

/// Says that a published file was purged, so that a repeated publish does not miss it.
pub(crate) fn purged(key: &str) -> String {
    format!("{DLQ_HIDDEN}/purged/{}", part(key))
}

#[cfg(test)]
mod tests {
    use conveyor_model::NodeId;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_come_back_and_are_safe(text in "\\PC{0,20}") {
            let encoded = part(&text);
            prop_assert!(!encoded.is_empty() && encoded != "." && encoded != ".." && !encoded.contains('/'));
            if encoded.len() < 87 && !text.bytes().all(|b| b == b'.') {
                prop_assert_eq!(decode(&encoded), text);
            }
        }

        #[test]
        fn different_names_have_different_parts(a in "[a./%é]{0,60}", b in "[a./%é]{0,60}") {
            prop_assert_eq!(part(&a) == part(&b), a == b);
        }
    }

    #[test]
    fn keys_say_what_they_were_made_of() {
        let id = PipelineId::new("a.b", "c/d.e");
        let task = TaskId { node: NodeId(3), subtask: 1 };
        let key = state(&id, Incarnation(7), task, "n3/x", 12, "r");
        let (incarnation, series, sequence) = parse_state(&key).expect("own key");
        assert_eq!((incarnation, sequence), (Incarnation(7), 12));
        assert!(key.starts_with(series));
        assert_eq!(manifest_epoch(&manifest(&id, Epoch(5), Incarnation(7))), Some(Epoch(5)));
        let key = format!(
            "{}/{}",
            dlq_folder(&id, "op 1", "2026-01-02"),
            dlq_part(Epoch(9), Incarnation(7), task, 4)
        );
        assert_eq!(parse_dlq(&key), Some((id.clone(), "op 1".into(), "2026-01-02".into(), Epoch(9))));
        assert_eq!(staged_incarnation(&dlq_staged(&id, Incarnation(7), task, 1, "r")), Some(Incarnation(7)));
    }
}
