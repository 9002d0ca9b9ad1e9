//! Watches who leads: begins the control loop when this router wins, and drops all of it when it loses.

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Result;
use conveyor_raft::Leadership;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::controller::{Controller, QUEUE, World};
use crate::hub::{Hub, Leading};

/// Pause before a log that cannot be read is read again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Follows the leadership until the node or the process ends.
///
/// # Errors
/// `log-stopped` when the node has stopped.
pub(crate) async fn follow(world: World, hub: Arc<Hub>, stop: CancellationToken) -> Result<()> {
    let mut seen = world.log.leadership();
    loop {
        let change = world.log.leadership_change(&seen);
        let next = if seen.leads {
            let term = seen.term;
            // The control loop is dropped as soon as anything else is true, wherever it is. Cancel-safe: what it has begun
            // is a command in the log or is begun again.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                change = change => change,
                () = lead(&world, &hub, term) => unreachable!("leading ends only by being dropped"),
            }
        } else {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                change = change => change,
            }
        };
        let next = next?;
        report(&seen, &next);
        seen = next;
    }
}

fn report(before: &Leadership, now: &Leadership) {
    let leader = now.leader.as_ref().map(|l| l.id);
    if now.leads != before.leads || leader != before.leader.as_ref().map(|l| l.id) {
        tracing::info!(term = now.term, leader, leads = now.leads, "the leadership has changed");
    }
}

/// Leads one term, until dropped.
async fn lead(world: &World, hub: &Arc<Hub>, term: u64) {
    loop {
        // Only what is read after this leader's own first entry is what was agreed before it.
        if let Err(error) = world.log.settle().await {
            tracing::warn!(%error, "the new leader cannot read the log yet");
            tokio::time::sleep(TRY_AGAIN).await;
            continue;
        }
        let (inputs, from_services) = mpsc::channel(QUEUE);
        let leading = Arc::new(Leading::new(term, inputs));
        let _over = Over { hub: hub.clone(), leading: leading.clone() };
        let controller = match Controller::new(world.clone(), &leading, from_services).await {
            Ok(controller) => controller,
            Err(error) => {
                tracing::warn!(%error, "the new leader cannot read the log yet");
                continue;
            }
        };
        hub.set(Some(leading));
        controller.run().await;
    }
}

/// Ends all that belongs to the term when it is dropped.
struct Over {
    hub: Arc<Hub>,
    leading: Arc<Leading>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.hub.set(None);
        self.leading.end.cancel();
        self.leading.tasks.close();
    }
}
