//! Notes the lines of the log in the process's journal, with the pipeline and the step that they are about.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use conveyor_net::Journal;
use conveyor_net::journal::Line;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The layer that notes.
pub(super) struct Keep(pub(super) Arc<Journal>);

/// What an event or a span says.
#[derive(Debug, Default, Clone)]
struct Said {
    pipeline: Option<String>,
    step: Option<String>,
    message: String,
    rest: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "pipeline" => self.pipeline = Some(format!("{value:?}")),
            "step" => self.step = Some(format!("{value:?}")),
            name => drop(write!(self.rest, " {name}={value:?}")),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut said = Said::default();
        attributes.record(&mut said);
        span.extensions_mut().insert(said);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() > Level::INFO {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        for span in context.event_scope(event).into_iter().flatten() {
            let extensions = span.extensions();
            let Some(around) = extensions.get::<Said>() else { continue };
            said.pipeline = said.pipeline.or_else(|| around.pipeline.clone());
            said.step = said.step.or_else(|| around.step.clone());
        }
        self.0.note(Line {
            number: 0,
            at_us: now_us(),
            level: event.metadata().level().to_string().to_lowercase(),
            pipeline: said.pipeline,
            step: said.step,
            text: said.message + &said.rest,
        });
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "lines of a log have the time of the machine, as those on standard error"
)]
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn a_line_knows_the_pipeline_of_its_span() {
        let journal = Arc::new(Journal::default());
        let subscriber = tracing_subscriber::registry().with(Keep(journal.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(pipeline = "a/b", tries = 3, "by itself");
            let span = tracing::error_span!("task", pipeline = %"c/d", step = %"s");
            span.in_scope(|| tracing::info!("in a span"));
            tracing::debug!("too much");
        });
        let lines = journal.last(9, |_| true);
        let seen: Vec<_> = lines
            .iter()
            .map(|l| (l.level.as_str(), l.pipeline.as_deref(), l.step.as_deref(), l.text.as_str()))
            .collect();
        assert_eq!(
            seen,
            [("warn", Some("a/b"), None, "by itself tries=3"), ("info", Some("c/d"), Some("s"), "in a span")]
        );
    }
}
