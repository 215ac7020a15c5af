//! The files that were read, and places in them.

/// Index of a file in a [`SourceMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A range of bytes in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub file: FileId,
    pub start: usize,
    pub end: usize,
}

/// All files that were read for one stack, by [`FileId`].
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    files: Vec<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    name: String,
    text: String,
    /// Where each line begins; every key of a large stack is asked for its line.
    lines: Vec<usize>,
}

impl SourceMap {
    /// Adds a file by the name that messages show.
    pub fn add(&mut self, name: String, text: String) -> FileId {
        let id = u32::try_from(self.files.len()).expect("a stack has fewer than 2^32 files");
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        self.files.push(Source { name, text, lines });
        FileId(id)
    }

    /// Returns name and text of each file, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|source| (source.name.as_str(), source.text.as_str()))
    }

    /// Returns how many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn name(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].name
    }

    pub fn text(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].text
    }

    /// Returns line and column, both from 1; columns count characters.
    pub fn position(&self, span: Span) -> (usize, usize) {
        let Source { text, lines, .. } = &self.files[span.file.0 as usize];
        let line = self.line(span);
        let start = lines[line - 1];
        let end = text.floor_char_boundary(span.start).max(start);
        (line, text[start..end].chars().count() + 1)
    }

    /// Returns the line, from 1.
    pub fn line(&self, span: Span) -> usize {
        self.files[span.file.0 as usize].lines.partition_point(|start| *start <= span.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.yaml".to_owned(), "é: 1\n\nb: 2".to_owned());
        let at = |start| sources.position(Span { file, start, end: start });
        assert_eq!(
            [at(0), at(2), at(5), at(6), at(7), at(9)],
            [(1, 1), (1, 2), (1, 5), (2, 1), (3, 1), (3, 3)]
        );
        // Past the end, as for an error at the end of a file.
        assert_eq!(at(99), (3, 5));
    }
}
