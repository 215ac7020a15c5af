//! Verbs on stacks, a file each.
