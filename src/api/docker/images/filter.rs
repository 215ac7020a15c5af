//! Which images a list shows.

use super::seconds;
use crate::api::docker::volumes::{has_labels, truth};
use crate::api::error::ApiError;
use crate::api::query::{Filters, check_filters};
use crate::engine::Engine;
use crate::engine::images::ImageView;

pub(super) fn wanted(
    engine: &Engine,
    images: Vec<ImageView>,
    filters: &Filters,
) -> Result<Vec<ImageView>, ApiError> {
    check_filters(filters, &["before", "dangling", "label", "reference", "since", "until"])?;
    let words = |key: &str| filters.get(key).into_iter().flatten();
    let mut bounds = (i64::MIN, i64::MAX);
    for word in words("since") {
        let created = engine.image(word)?.config.created;
        bounds.0 = bounds.0.max(seconds(created.as_deref()));
    }
    for word in words("before") {
        let created = engine.image(word)?.config.created;
        bounds.1 = bounds.1.min(seconds(created.as_deref()));
    }
    for word in words("until") {
        bounds.1 = bounds.1.min(until(word)?);
    }
    let dangling = words("dangling").next().map(|word| truth(word)).transpose()?;
    let patterns: Vec<&String> = words("reference").collect();
    Ok(images
        .into_iter()
        .filter_map(|mut image| {
            let created = seconds(image.config.created.as_deref());
            let fits = created > bounds.0
                && created < bounds.1
                && dangling.is_none_or(|wanted| wanted == image.tags.is_empty())
                && has_labels(&image.config.config.labels, filters);
            if !patterns.is_empty() {
                image.tags.retain(|tag| patterns.iter().any(|pattern| names(tag, pattern)));
                image.digests.retain(|name| patterns.iter().any(|pattern| names(name, pattern)));
            }
            (fits && (patterns.is_empty() || !image.tags.is_empty())).then_some(image)
        })
        .collect())
}

/// Reads a time: Unix seconds, a date, or how long ago.
pub(super) fn until(word: &str) -> Result<i64, ApiError> {
    let wrong = || ApiError::invalid(format!("invalid filter 'until={word}': it is no time"));
    if let Ok(seconds) = word.parse::<i64>() {
        return Ok(seconds);
    }
    if let Ok(date) = word.parse::<jiff::Timestamp>() {
        return Ok(date.as_second());
    }
    let ago = crate::spec::value::duration::parse(word).map_err(|_| wrong())?;
    let ago = i64::try_from(ago.as_secs()).map_err(|_| wrong())?;
    Ok(jiff::Timestamp::now().as_second() - ago)
}

/// Tells whether a tag, or its repository, is what the pattern says.
fn names(tag: &str, pattern: &str) -> bool {
    let repository = tag.split_once('@').or_else(|| tag.rsplit_once(':'));
    let repository = repository.map_or(tag, |(repository, _)| repository);
    matches(pattern.as_bytes(), tag.as_bytes())
        || matches(pattern.as_bytes(), repository.as_bytes())
}

/// Matches `*` and `?`, neither of which stands for a slash, as Go's `path.Match`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            matches(&pattern[1..], text)
                || text.first().is_some_and(|byte| *byte != b'/' && matches(pattern, &text[1..]))
        }
        (Some(b'?'), Some(byte)) => *byte != b'/' && matches(&pattern[1..], &text[1..]),
        (Some(one), Some(other)) => one == other && matches(&pattern[1..], &text[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_a_repository_or_a_tag_of_it() {
        assert!(names("nginx:alpine", "nginx"));
        assert!(names("nginx:alpine", "ngin*:alp?ne"));
        assert!(names("me/app:1", "me/*"));
        assert!(!names("me/app:1", "*"));
        assert!(!names("nginx:alpine", "nginx:latest"));
    }

    #[test]
    fn a_time_is_a_date_or_an_age() {
        assert_eq!(until("100").ok(), Some(100));
        assert_eq!(until("1970-01-01T00:01:40Z").ok(), Some(100));
        assert!(until("1h").is_ok_and(|at| at < jiff::Timestamp::now().as_second() - 3500));
        assert!(until("soon").is_err());
    }
}
