//! What the processes log belongs to the record, and some of it must never be logged.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::world::{record, violation};

/// Codes of errors that no fault of a simulation may cause.
const NEVER: &[&str] = &[
    "edge-protocol",
    "rows-not-conserved",
    "task-panicked",
    "ledger-ahead",
    "manifest-unnamed",
    "manifest-mismatch",
    "hash-mismatch",
    "object-missing",
    "log-corrupt",
    "dead-letters-lost",
    "dead-letters-in-doubt",
];

struct Recorder;

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = if field.name() == "message" { "" } else { field.name() };
        self.0.push_str(&format!(" {name}={value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push_str(&format!(" {}={value}", field.name()));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let meta = event.metadata();
        if !meta.target().starts_with("conveyor") || *meta.level() > Level::DEBUG {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let host = context.event_scope(event).into_iter().flatten().find_map(|span| {
            let extensions = span.extensions();
            extensions.get::<Host>().map(|host| host.0.clone())
        });
        let host = host.unwrap_or_default();
        record(&format!("{host} {} {}{}", meta.level(), meta.target(), text.0));
        if let Some(code) = NEVER.iter().find(|code| text.0.contains(**code)) {
            violation(format!("{code}: {host}{}", text.0));
        }
    }

    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        if attributes.metadata().name() == "node" {
            let mut text = Text::default();
            attributes.record(&mut text);
            if let Some(span) = context.span(id) {
                span.extensions_mut().insert(Host(text.0));
            }
        }
    }
}

struct Host(String);

/// From here on this thread's log goes into the record.
pub(crate) fn install() -> tracing::subscriber::DefaultGuard {
    tracing::subscriber::set_default(tracing_subscriber::registry().with(Recorder))
}
