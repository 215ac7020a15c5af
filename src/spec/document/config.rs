//! Top-level `configs:` and `secrets:`: where a file's content comes from.

use std::collections::BTreeMap;

use super::{Place, Report};
use crate::diagnostic::Span;
use crate::spec::keys;

/// Where the content is; it is read only for a service that uses it.
#[derive(Debug, Clone)]
pub(crate) enum FileSource {
    File { path: String, span: Span },
    Environment { variable: String, span: Span },
    Content(String),
}

/// Reads a section. `None` under a key: the entry is wrong, and that was reported.
pub(crate) fn file_sources(
    place: &Place<'_>,
    report: &mut Report,
) -> BTreeMap<String, Option<FileSource>> {
    let entries = place.entries(report);
    entries.into_iter().map(|(key, place)| (key.to_owned(), file_source(&place, report))).collect()
}

fn file_source(place: &Place<'_>, report: &mut Report) -> Option<FileSource> {
    let mut fields = place.fields(&keys::FILE, report)?;
    let mut sources = Vec::new();
    if let Some(place) = fields.get("file") {
        sources
            .extend(place.string(report).map(|path| FileSource::File { path, span: place.span() }));
    }
    if let Some(place) = fields.get("environment") {
        let source = |variable| FileSource::Environment { variable, span: place.span() };
        sources.extend(place.string(report).map(source));
    }
    if let Some(place) = fields.get("content") {
        sources.extend(place.string(report).map(FileSource::Content));
    }
    let hint = "give the content by file, environment or content";
    if let Some(place) = fields.get("external")
        && (place.is_mapping() || place.flag(report) == Some(true))
    {
        report.push(
            place
                .error("unsupported", "external configs and secrets are not supported")
                .with_hint(hint),
        );
        for key in ["driver", "driver_opts", "template_driver", "name", "labels"] {
            let _ = fields.get(key);
        }
        fields.finish(report);
        return None;
    }
    fields
        .unsupported(report, &[("driver", hint), ("driver_opts", hint), ("template_driver", hint)]);
    fields.not_enforced(report, &[("name", ""), ("labels", "")]);
    fields.finish(report);
    match sources.len() {
        1 => sources.pop(),
        0 => {
            report.push(place.error("missing-key", "there is no content").with_hint(hint));
            None
        }
        _ => {
            report.push(
                place
                    .error("conflict", "there is more than one content")
                    .with_hint("keep one of file, environment and content"),
            );
            None
        }
    }
}
