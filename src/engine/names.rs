//! Ids, random names, and what a user's word for an object means. Randomness comes in as an argument.

/// Returns a container's id: 64 hex digits of 32 random bytes.
///
/// Docker never gives an id whose first twelve digits are a number, as those may be a host name; the caller
/// draws again when this returns `None`.
pub fn id_from(random: [u8; 32]) -> Option<String> {
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let short_is_a_number = id[..12].bytes().all(|digit| digit.is_ascii_digit());
    (!short_is_a_number).then_some(id)
}

/// Returns a name such as `calm_keel`. A caller whose name is taken draws again, then passes `suffix`.
pub fn name_from(random: u32, suffix: Option<u8>) -> String {
    let adjectives = u32::try_from(ADJECTIVES.len()).expect("the list is short");
    let nouns = u32::try_from(NOUNS.len()).expect("the list is short");
    let adjective = ADJECTIVES[(random % adjectives) as usize];
    let noun = NOUNS[(random / adjectives % nouns) as usize];
    match suffix {
        Some(digit) => format!("{adjective}_{noun}{digit}"),
        None => format!("{adjective}_{noun}"),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("no such {kind}: {word}")]
    NotFound { kind: &'static str, word: String },
    #[error("multiple {kind}s found with provided prefix: {word}")]
    Ambiguous { kind: &'static str, word: String },
}

/// Returns the id that `word` means among `(id, name)` pairs: a full id, else a name, else a unique prefix.
///
/// As in docker a name hides an id's prefix, and a leading slash of a name is ignored.
pub fn resolve<'a>(
    kind: &'static str,
    word: &str,
    objects: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<&'a str, ResolveError> {
    let name = word.strip_prefix('/').unwrap_or(word);
    if let Some((id, _)) = objects.clone().find(|(id, _)| *id == word) {
        return Ok(id);
    }
    if let Some((id, _)) = objects.clone().find(|(_, known)| *known == name) {
        return Ok(id);
    }
    let not_found = || ResolveError::NotFound { kind, word: word.to_owned() };
    if word.is_empty() {
        return Err(not_found());
    }
    let mut matching = objects.filter(|(id, _)| id.starts_with(word));
    let (id, _) = matching.next().ok_or_else(not_found)?;
    match matching.next() {
        None => Ok(id),
        Some(_) => Err(ResolveError::Ambiguous { kind, word: word.to_owned() }),
    }
}

const ADJECTIVES: [&str; 32] = [
    "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "clever", "crisp", "deep",
    "eager", "fair", "gentle", "golden", "happy", "hardy", "jolly", "keen", "kind", "lively",
    "lucid", "merry", "mighty", "nimble", "proud", "quiet", "rapid", "silver", "steady", "sunny",
    "swift", "wise",
];

const NOUNS: [&str; 32] = [
    "anchor", "barge", "beacon", "bollard", "bosun", "bow", "buoy", "capstan", "cleat", "compass",
    "dock", "ferry", "galley", "harbor", "helm", "hull", "jetty", "keel", "lantern", "lock",
    "mast", "mooring", "oar", "pilot", "quay", "rudder", "sail", "sextant", "skiff", "tide",
    "tiller", "wharf",
];

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: [(&str, &str); 3] = [("abc1", "web"), ("abd2", "db"), ("fff3", "abc")];

    fn look(word: &str) -> Result<&'static str, ResolveError> {
        resolve("container", word, OBJECTS.iter().copied())
    }

    #[test]
    fn a_full_id_a_name_and_a_unique_prefix_are_found_in_that_order() {
        assert_eq!(look("abd2"), Ok("abd2"));
        assert_eq!(look("/db"), Ok("abd2"));
        assert_eq!(look("f"), Ok("fff3"));
        assert_eq!(look("abc"), Ok("fff3"));
    }

    #[test]
    fn a_shared_prefix_and_an_unknown_word_are_refused() {
        assert!(matches!(look("ab"), Err(ResolveError::Ambiguous { .. })));
        assert!(matches!(look("zz"), Err(ResolveError::NotFound { .. })));
        assert!(matches!(look(""), Err(ResolveError::NotFound { .. })));
    }

    #[test]
    fn every_random_number_gives_a_valid_name() {
        for random in [0, 31, 32, 1023, u32::MAX] {
            let name = name_from(random, Some(7));
            assert!(crate::spec::name::ObjectName::try_from(name.as_str()).is_ok(), "{name}");
        }
        assert_eq!(name_from(0, None), "agile_anchor");
    }

    #[test]
    fn an_id_whose_short_form_is_a_number_is_drawn_again() {
        assert_eq!(id_from([0x11; 32]), None);
        assert_eq!(id_from([0xab; 32]), Some("ab".repeat(32)));
    }
}
