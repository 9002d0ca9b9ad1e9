//! Deletes what no retained manifest names and nobody can name any more; never by age alone.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_model::manifest::{Manifest, ManifestRef, Manifests};
use conveyor_model::{Kind, PipelineId, Result};

use crate::objects::Objects;
use crate::{Store, paths};

/// Keeps the last `keep` committed manifests and all that they name.
pub(crate) async fn clean_up(
    store: &Store,
    objects: &dyn Objects,
    pipeline: &PipelineId,
    committed: &ManifestRef,
    keep: usize,
) -> Result<()> {
    let retained = retained(store, pipeline, committed, keep.max(1)).await?;
    let Some((_, newest)) = retained.first() else { return Ok(()) };
    let named: BTreeSet<&str> = retained.iter().map(|(r, _)| r.key.as_str()).collect();
    for (key, _) in objects.list(&paths::manifests(pipeline)).await? {
        // Epochs strictly grow: what is older than the committed one and not in its chain can never be committed.
        let over = paths::manifest_epoch(&key).is_some_and(|epoch| epoch < newest.epoch);
        if over && !named.contains(key.as_str()) {
            objects.delete(&key).await?;
        }
    }
    delete_states(objects, pipeline, &retained).await
}

/// Deletes snapshots of incarnations that are over, and those that a retained manifest has superseded.
async fn delete_states(
    objects: &dyn Objects,
    pipeline: &PipelineId,
    retained: &[(ManifestRef, Manifest)],
) -> Result<()> {
    let Some((_, newest)) = retained.first() else { return Ok(()) };
    let refs = retained.iter().flat_map(|(_, m)| &m.tasks).flat_map(|t| t.ack.state.values());
    let named: BTreeSet<&str> = refs.map(|r| r.key.as_str()).collect();
    // The oldest upload of each series (one step of one task in one incarnation) that is still named.
    let mut oldest: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, series, sequence) in named.iter().filter_map(|key| paths::parse_state(key)) {
        oldest.entry(series).and_modify(|s| *s = sequence.min(*s)).or_insert(sequence);
    }
    for (key, _) in objects.list(&paths::states(pipeline)).await? {
        let Some((incarnation, series, sequence)) = paths::parse_state(&key) else { continue };
        // An incarnation before the one that committed last is fenced. In the same series a later upload is named, so
        // an earlier one belongs to an epoch that was superseded; a later one may belong to the epoch under way.
        let fenced = incarnation < newest.incarnation;
        let superseded = oldest.get(series).is_some_and(|&s| sequence < s);
        if (fenced || superseded) && !named.contains(key.as_str()) {
            objects.delete(&key).await?;
        }
    }
    Ok(())
}

/// The newest `keep` manifests of the chain, newest first. The chain ends where an earlier clean-up has cut it.
async fn retained(
    store: &Store,
    pipeline: &PipelineId,
    committed: &ManifestRef,
    keep: usize,
) -> Result<Vec<(ManifestRef, Manifest)>> {
    let mut chain = Vec::with_capacity(keep);
    let mut at = Some(committed.clone());
    while let Some(reference) = at.take().filter(|_| chain.len() < keep) {
        match store.read(pipeline, &reference).await {
            Ok(manifest) => {
                at = manifest.parent.as_ref().map(|(_, parent)| parent.clone());
                chain.push((reference, manifest));
            }
            Err(e) if e.kind() == Kind::Corrupt && e.code() == "object-missing" && !chain.is_empty() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(chain)
}
