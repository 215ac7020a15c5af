//! Events of containers, with the attributes that docker gives them.

use crate::engine::core::Engine;
use crate::engine::merge;
use crate::engine::state::containers::Container;

impl Engine {
    /// Tells that `action` happened to the container: its labels, image and name, and `more`.
    pub(crate) fn announce(&self, row: &Container, action: &str, more: &[(&str, String)]) {
        let mut attributes = merge::labels(&row.spec, &self.image_facts(row));
        attributes.insert("image".to_owned(), row.spec.image.clone());
        attributes.insert("name".to_owned(), row.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.emit("container", action, &row.id, attributes);
    }
}
