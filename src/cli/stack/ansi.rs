//! Colours of the stack verbs' output.

use std::io;

pub(crate) const DIM: &str = "2";
pub(crate) const RED: &str = "31";
pub(crate) const GREEN: &str = "32";
pub(crate) const YELLOW: &str = "33";
pub(crate) const CYAN: &str = "36";

/// Whether a stream takes colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) const PLAIN: Self = Self(false);
    #[cfg(test)]
    pub(crate) const COLOURED: Self = Self(true);

    /// As `stream` and the environment (`NO_COLOR`, `CLICOLOR_FORCE`, `TERM`) want it.
    pub(crate) fn of<S: anstream::stream::RawStream>(stream: &S) -> Self {
        Self(anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never)
    }

    pub(crate) fn stdout() -> Self {
        Self::of(&io::stdout())
    }

    pub(crate) fn stderr() -> Self {
        Self::of(&io::stderr())
    }

    pub(crate) fn is_coloured(self) -> bool {
        self.0
    }

    /// Wraps `text` into the graphic rendition `code` (ECMA-48 8.3.117).
    pub(crate) fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with(DIM, text)
    }
}

/// Removes the renditions that [`Paint`] wrote.
pub(crate) fn strip(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        kept.push_str(&rest[..start]);
        rest = rest[start..].find('m').map_or("", |end| &rest[start + end + 1..]);
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_painted_can_be_stripped() {
        let text = format!("a {} b", Paint::COLOURED.with(RED, "wrong"));
        assert_eq!(text, "a \x1b[31mwrong\x1b[0m b");
        assert_eq!(strip(&text), "a wrong b");
        assert_eq!(Paint::PLAIN.with(RED, "wrong"), "wrong");
    }
}
